// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"errors"
	"fmt"
)

// Commit is a commit object, GVariant (a{sv}aya(say)sstayay), without its body
// text and the metadata that a push has no use for.
type Commit struct {
	Parent    Checksum // meaningful if HasParent
	HasParent bool
	Tree      Checksum // the root dirtree
	Meta      Checksum // the root dirmeta
	Timestamp uint64   // seconds since 1970, UTC
	Subject   string

	RefBindings    []string // ostree.ref-binding
	HasRefBindings bool     // tells an empty list from none
	CollectionID   string   // ostree.collection-binding, "" if none
}

// ParseCommit reads a commit. An error means that b is no commit that libostree
// would write: not in normal form, a checksum of another length, an empty
// metadata key, a binding of another type or given twice.
func ParseCommit(b []byte) (*Commit, error) {
	if err := checkMetadata(commitType, b, "a commit's (a{sv}aya(say)sstayay)"); err != nil {
		return nil, err
	}
	var m [8][]byte
	members(commitType, b, m[:])
	c := &Commit{Timestamp: be64(m[5]), Subject: str(m[3])}
	for _, err := range []error{
		c.readParent(m[1]),
		checkRelated(m[2]),
		readChecksum(&c.Tree, m[6], "the root dirtree's checksum"),
		readChecksum(&c.Meta, m[7], "the root dirmeta's checksum"),
		c.readMetadata(m[0]),
	} {
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func checkMetadata(t *gvType, b []byte, what string) error {
	if len(b) > MaxMetadata {
		return fmt.Errorf("it is larger than the %d bytes that metadata may have", MaxMetadata)
	}
	if !normal(t, b) {
		return fmt.Errorf("it is not in the normal form of %s", what)
	}
	return nil
}

func readChecksum(c *Checksum, b []byte, what string) error {
	if len(b) != len(c) {
		return fmt.Errorf("%s has %d bytes instead of 32", what, len(b))
	}
	copy(c[:], b)
	return nil
}

func (c *Commit) readParent(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c.HasParent = true
	return readChecksum(&c.Parent, b, "the parent's checksum")
}

// checkRelated looks at the list of related objects, which libostree always
// leaves empty.
func checkRelated(b []byte) error {
	related, _ := openArray(commitType.members[2], b)
	for i := range related.len() {
		var m [2][]byte
		members(related.elem, related.at(i), m[:])
		if len(m[1]) != 32 {
			return fmt.Errorf("a related object's checksum has %d bytes instead of 32", len(m[1]))
		}
	}
	return nil
}

const (
	keyRefBinding        = "ostree.ref-binding"
	keyCollectionBinding = "ostree.collection-binding"
)

// readMetadata takes the bindings out of a commit's metadata. Other keys may
// stand there twice (`ostree commit` lets them); a binding may not, since then
// what is checked here and what a client looks up could differ.
func (c *Commit) readMetadata(b []byte) error {
	hasCollection := false
	for _, it := range readDict(b) {
		switch it.key {
		case "":
			return errors.New("its metadata has an empty key")
		case keyRefBinding:
			list, ok := ofType(it.value, "as")
			if !ok || c.HasRefBindings {
				return fmt.Errorf("%s is not one list of strings", keyRefBinding)
			}
			c.RefBindings, c.HasRefBindings = readStrings(list), true
		case keyCollectionBinding:
			s, ok := ofType(it.value, "s")
			if !ok || hasCollection {
				return fmt.Errorf("%s is not one string", keyCollectionBinding)
			}
			c.CollectionID, hasCollection = str(s), true
		}
	}
	return nil
}

func readStrings(b []byte) []string {
	a, _ := openArray(stringsType, b)
	list := make([]string, a.len())
	for i := range list {
		list[i] = str(a.at(i))
	}
	return list
}
