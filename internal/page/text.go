// SPDX-License-Identifier: AGPL-3.0-or-later

package page

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Text keeps a text of several lines from moving the cursor, but for its line ends.
func Text(text string) string {
	parts := strings.Split(text, "\n")
	for i, p := range parts {
		parts[i] = Printable(p)
	}
	return strings.Join(parts, "\n")
}

// JSON is v as a document for people and programs.
func JSON(v any) (string, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	err := out.Encode(v)
	return text.String(), err
}
