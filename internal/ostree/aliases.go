// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

// An Alias is a local ref that is a symlink to another one.
type Alias struct{ Name, Target string }

// Aliases lists the aliases of the repository, sorted by their names.
func (r *Repo) Aliases() (list []Alias, err error) {
	names, err := r.RefNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		target, is, err := r.Alias(name)
		if err != nil {
			return nil, err
		}
		if is {
			list = append(list, Alias{name, target})
		}
	}
	return list, nil
}
