// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"fmt"
	"os"
	"strings"
)

// config is a repository's config file, a GKeyFile: values by "group.key".
type config map[string]string

// readConfig reads as much of GKeyFile as libostree's own settings need: groups,
// comments, and the last of two values of one key.
func readConfig(path string) (config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read its config: %w", err)
	}
	c, group := config{}, ""
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			group = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || group == "" {
			return nil, fmt.Errorf("config line %d is neither a group nor a key with a value", i+1)
		}
		c[group+"."+strings.TrimSpace(key)] = unescape.Replace(strings.TrimSpace(value))
	}
	return c, nil
}

// isSet tells whether a boolean is true, as GKeyFile spells that.
func (c config) isSet(key string) bool { return c[key] == "true" || c[key] == "1" }

// isUnset tells whether a boolean is there and false.
func (c config) isUnset(key string) bool { return c[key] == "false" || c[key] == "0" }

// unescape undoes GKeyFile's escapes.
var unescape = strings.NewReplacer(`\s`, " ", `\t`, "\t", `\n`, "\n", `\r`, "\r", `\\`, `\`)
