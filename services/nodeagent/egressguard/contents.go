package egressguard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

const (
	tableName = "damask_egress"
	setOpen   = "open"  // marks that may pass
	setPairs  = "pairs" // mark and address, of what may leave
	setHeld   = "held"  // addresses that are egress IPs of this node
)

// atOnce is how many elements are sent in one message.
const atOnce = 500

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
}

// sets are the three, as they are made and asked for.
func sets() (open, pairs, held *nftables.Set) {
	t := table()
	open = &nftables.Set{Table: t, Name: setOpen, KeyType: nftables.TypeMark, KeyByteOrder: binaryutil.NativeEndian}
	pairs = &nftables.Set{
		Table: t, Name: setPairs, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr),
	}
	held = &nftables.Set{Table: t, Name: setHeld, KeyType: nftables.TypeIPAddr}
	return open, pairs, held
}

// contents is what the sets have, by the bytes of their elements.
type contents struct {
	open  map[[4]byte]bool
	pairs map[[8]byte]bool
	held  map[[4]byte]bool
}

func newContents() contents {
	return contents{open: map[[4]byte]bool{}, pairs: map[[8]byte]bool{}, held: map[[4]byte]bool{}}
}

func contentsOf(all []masquerade.EgressIP) contents {
	c := newContents()
	for _, e := range all {
		mark, ip := [4]byte{}, e.IP.As4()
		binary.NativeEndian.PutUint32(mark[:], e.Mark)
		c.open[mark], c.held[ip] = true, true
		c.pairs[[8]byte(append(mark[:], ip[:]...))] = true
	}
	return c
}

func markOf(pair [8]byte) [4]byte { return [4]byte(pair[:4]) }

// translations are the pairs whose mark is open.
func (c contents) translations() []masquerade.EgressIP {
	var all []masquerade.EgressIP
	for pair := range c.pairs {
		if c.open[markOf(pair)] {
			all = append(all, masquerade.EgressIP{Mark: binary.NativeEndian.Uint32(pair[:4]), IP: netip.AddrFrom4([4]byte(pair[4:]))})
		}
	}
	slices.SortFunc(all, func(a, b masquerade.EgressIP) int { return int(int64(a.Mark) - int64(b.Mark)) })
	return all
}

func exists(conn *nftables.Conn) (bool, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// read reads the sets.
func read(conn *nftables.Conn) (contents, error) {
	c := newContents()
	open, pairs, held := sets()
	err := errors.Join(
		readSet(conn, open, func(key []byte) { c.open[[4]byte(key)] = true }),
		readSet(conn, pairs, func(key []byte) { c.pairs[[8]byte(key)] = true }),
		readSet(conn, held, func(key []byte) { c.held[[4]byte(key)] = true }),
	)
	return c, err
}

func readSet(conn *nftables.Conn, set *nftables.Set, take func(key []byte)) error {
	elements, err := conn.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("read set %s: %w", set.Name, err)
	}
	for _, e := range elements {
		take(e.Key)
	}
	return nil
}

// become sends the difference, in one transaction. What goes is taken out of what is
// open first, within it: no packet sees a part of it in any case.
func (c contents) become(conn *nftables.Conn, want contents) (lines []string, err error) {
	open, pairs, held := sets()
	var errs []error
	lines = append(lines, difference(conn, open, c.open, want.open, &errs)...)
	lines = append(lines, difference(conn, pairs, c.pairs, want.pairs, &errs)...)
	lines = append(lines, difference(conn, held, c.held, want.held, &errs)...)
	if err := errors.Join(errs...); err != nil || len(lines) == 0 {
		return nil, err
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	return lines, nil
}

// element is the bytes of one.
type element interface{ [4]byte | [8]byte }

func difference[E element](conn *nftables.Conn, set *nftables.Set, has, want map[E]bool, errs *[]error) (lines []string) {
	var gone, came []nftables.SetElement
	for e := range has {
		if !want[e] {
			gone = append(gone, nftables.SetElement{Key: bytesOf(e)})
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %s should not be there", tableName, set.Name, spell(set, bytesOf(e))))
		}
	}
	for e := range want {
		if !has[e] {
			came = append(came, nftables.SetElement{Key: bytesOf(e)})
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %s is missing", tableName, set.Name, spell(set, bytesOf(e))))
		}
	}
	for some := range slices.Chunk(gone, atOnce) {
		*errs = append(*errs, conn.SetDeleteElements(set, some))
	}
	for some := range slices.Chunk(came, atOnce) {
		*errs = append(*errs, conn.SetAddElements(set, some))
	}
	return lines
}

func bytesOf[E element](e E) []byte {
	switch e := any(e).(type) {
	case [4]byte:
		return e[:]
	case [8]byte:
		return e[:]
	}
	return nil
}

// spell writes an element for people.
func spell(set *nftables.Set, key []byte) string {
	address := func(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }
	mark := func(b []byte) string { return fmt.Sprintf("mark %#x", binary.NativeEndian.Uint32(b)) }
	switch set.Name {
	case setOpen:
		return mark(key)
	case setPairs:
		return mark(key[:4]) + " of " + address(key[4:])
	}
	return address(key)
}
