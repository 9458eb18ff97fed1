// SPDX-License-Identifier: AGPL-3.0-or-later

package config

// page reads whether there is the operator's page, and where. An address of its own is
// enough to have it.
func (p *parser) page(form *fileForm, c *Config) {
	on := "false"
	p.oneOf(&form.Page, "page", &on, "true", "false")
	p.address(&form.PageAddress, "page-address", &c.PageAddress)
	c.Page = on == "true" || c.PageAddress != ""
	if c.PageAddress != "" && form.Page.Kind != 0 && on == "false" {
		p.errorf(&form.Page, "page", "false does not go with page-address: leave out one of the two")
	}
}
