// SPDX-License-Identifier: AGPL-3.0-or-later

package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/lirios/ostree-upload/internal/gvariant"
)

// Commit is what a push needs of a commit object, GVariant
// (a{sv}aya(say)sstayay).
type Commit struct {
	Parent    Checksum // meaningful if HasParent
	HasParent bool
	Tree      Checksum // the root dirtree
	Meta      Checksum // the root dirmeta
	Time      uint64   // when it was made, as its maker says: seconds since 1970
	Subject   string   // its first line, to people

	RefBindings    []string // ostree.ref-binding
	HasRefBindings bool     // tells an empty list from none
	CollectionID   string   // ostree.collection-binding, "" if none
	Version        string   // of what is in it, "" if none
}

// CheckBindings reports that a commit names other refs (ostree.ref-binding), or another
// collection than the repository's (ostree.collection-binding), "" if that has none.
func (c *Commit) CheckBindings(ref, collection string) error {
	if c.HasRefBindings && !slices.Contains(c.RefBindings, ref) {
		return fmt.Errorf("the commit is bound to refs %q only", c.RefBindings)
	}
	if collection != "" && c.CollectionID != "" && collection != c.CollectionID {
		return fmt.Errorf("the commit is bound to collection %q, the repository is %q", c.CollectionID, collection)
	}
	return nil
}

var (
	commitType  = gvariant.MustParse("(a{sv}aya(say)sstayay)")
	relatedType = gvariant.MustParse("a(say)")
	stringsType = gvariant.MustParse("as")
)

// ParseCommit reads a commit. An error means that libostree would not write b as
// one: it is not in normal form, a checksum has another length, a metadata key is
// empty, or a binding has another type or comes twice.
func ParseCommit(b []byte) (*Commit, error) {
	if err := checkMetadata(commitType, b, "a commit's (a{sv}aya(say)sstayay)"); err != nil {
		return nil, err
	}
	var m [8][]byte
	commitType.Members(b, m[:])
	c := &Commit{Time: binary.BigEndian.Uint64(m[5]), Subject: gvariant.String(m[3])}
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

func checkMetadata(t *gvariant.Type, b []byte, what string) error {
	if len(b) > MaxMetadata {
		return fmt.Errorf("it is larger than the %d bytes that metadata may have", MaxMetadata)
	}
	if !t.Normal(b) {
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
	related := relatedType.Elements(b)
	for i := range related.Len() {
		var m [2][]byte
		related.Members(i, m[:])
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

// readMetadata takes the bindings out of a commit's metadata. A binding may not
// come twice: this check could look at one and a client at the other. Other keys
// may, since `ostree commit` allows it.
func (c *Commit) readMetadata(b []byte) error {
	hasCollection := false
	for _, it := range gvariant.Dict(b) {
		switch it.Key {
		case "":
			return errors.New("its metadata has an empty key")
		case keyRefBinding:
			list, ok := gvariant.Value(it.Value, "as")
			if !ok || c.HasRefBindings {
				return fmt.Errorf("%s is not one list of strings", keyRefBinding)
			}
			c.RefBindings, c.HasRefBindings = readStrings(list), true
		case "version":
			if s, ok := gvariant.Value(it.Value, "s"); ok {
				c.Version = gvariant.String(s)
			}
		case keyCollectionBinding:
			s, ok := gvariant.Value(it.Value, "s")
			if !ok || hasCollection {
				return fmt.Errorf("%s is not one string", keyCollectionBinding)
			}
			c.CollectionID, hasCollection = gvariant.String(s), true
		}
	}
	return nil
}

func readStrings(b []byte) []string {
	a := stringsType.Elements(b)
	list := make([]string, a.Len())
	for i := range list {
		list[i] = gvariant.String(a.At(i))
	}
	return list
}
