package firewallguard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// contents is what the sets have, by the bytes of their elements, and the pods' map with
// the names of firewalls. Each firewall of a pod is in allowed.
type contents struct {
	nodes   map[string]string
	ports   map[string]string
	free    map[string]string
	pods    map[string]string
	allowed map[string]map[string]string
}

func newContents() contents {
	return contents{nodes: map[string]string{}, ports: map[string]string{}, free: map[string]string{}, pods: map[string]string{}, allowed: map[string]map[string]string{}}
}

func contentsOf(w Wanted) contents {
	c := newContents()
	for _, ip := range w.Nodes {
		c.nodes[string(ip.AsSlice())] = ""
	}
	for _, p := range w.NodePorts {
		c.ports[string(bytesOf(nil, p.Protocol, p.Port))] = ""
	}
	for _, ip := range w.Free {
		c.free[string(ip.AsSlice())] = ""
	}
	for ip, firewall := range w.Judged {
		c.pods[string(ip.AsSlice())] = firewall
		c.allowed[firewall] = map[string]string{}
	}
	for firewall, endpoints := range w.Allowed {
		if c.allowed[firewall] == nil {
			continue // of nobody
		}
		for _, e := range endpoints {
			c.allowed[firewall][string(bytesOf(e.Address.Addr().AsSlice(), e.Protocol, e.Address.Port()))] = ""
		}
	}
	return c
}

// bytesOf are an address, if there is one, a protocol and a port, each filled up to four bytes.
func bytesOf(address []byte, protocol uint8, port uint16) []byte {
	key := append(slices.Clone(address), protocol, 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(key, port), 0, 0)
}

func (c contents) clone() contents {
	n := contents{maps.Clone(c.nodes), maps.Clone(c.ports), maps.Clone(c.free), maps.Clone(c.pods), map[string]map[string]string{}}
	for firewall, elements := range c.allowed {
		n.allowed[firewall] = maps.Clone(elements)
	}
	return n
}

// read answers what the kernel has, and a line for each set, chain or rule that is
// missing, different or should not be there.
func read(conn *nftables.Conn, config Config) (has contents, wrong []string, err error) {
	has = newContents()
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return has, nil, fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return has, []string{fmt.Sprintf("nftables: table %s is missing", tableName)}, nil
	}
	say := func(format string, values ...any) {
		wrong = append(wrong, fmt.Sprintf("nftables: table %s: ", tableName)+fmt.Sprintf(format, values...))
	}
	if err := has.readSets(conn, say); err != nil {
		return has, nil, err
	}
	wanted := standing(config)
	for firewall := range has.allowed {
		wanted = append(wanted, firewallChain(firewall))
	}
	err = readChains(conn, wanted, say)
	return has, wrong, err
}

// standing are the sets that are there without any firewall, with what they have.
func (c contents) standing() []elements {
	return []elements{{set: nodesSet(), has: c.nodes}, {set: portsSet(), has: c.ports}, {set: freeSet(), has: c.free}, {set: podsMap(), has: c.pods}}
}

// of answers one of them by its name; nil if it is none.
func (c contents) of(name string) (*nftables.Set, map[string]string) {
	for _, s := range c.standing() {
		if s.set.Name == name {
			return s.set, s.has
		}
	}
	return nil, nil
}

type sayer func(format string, values ...any)

func (c contents) readSets(conn *nftables.Conn, say sayer) error {
	sets, err := conn.GetSets(table())
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	standing := map[string]bool{}
	for _, s := range c.standing() {
		standing[s.set.Name] = false
	}
	for _, there := range sets {
		firewall, isAllowed := strings.CutPrefix(there.Name, setPrefix)
		want, into := c.of(there.Name)
		switch {
		case isAllowed:
			want, into = allowedSet(firewall), map[string]string{}
			c.allowed[firewall] = into
		case want == nil:
			say("set %s should not be there", there.Name)
			continue
		default:
			standing[there.Name] = true
		}
		if !same(there, want) {
			say("set %s is of another kind", there.Name)
			continue
		}
		elements, err := conn.GetSetElements(want)
		if err != nil {
			return fmt.Errorf("read set %s: %w", want.Name, err)
		}
		for _, e := range elements {
			value := ""
			if want.IsMap {
				if value, err = firewallOf(e.Val); err != nil {
					say("map %s: %s: %v", want.Name, spell([]byte(e.Key)), err)
				}
			}
			into[string(e.Key)] = value
		}
	}
	for name, there := range standing {
		if !there {
			say("set %s is missing", name)
		}
	}
	return nil
}

// same says that a set of the kernel is of the kind that is wanted. The library has the
// kind of a map's verdicts as the kind of its keys.
func same(there, want *nftables.Set) bool {
	if there.IsMap != want.IsMap || there.Interval || there.HasTimeout || there.Dynamic {
		return false
	}
	if want.IsMap {
		return there.KeyType.Name == nftables.TypeVerdict.Name || there.DataType.Name == nftables.TypeVerdict.Name
	}
	return there.KeyType.Name == want.KeyType.Name && there.KeyType.Bytes == want.KeyType.Bytes
}

// firewallOf reads the verdict of the pods' map: attributes as in nfnetlink's
// nft_verdict_attributes.
func firewallOf(verdict []byte) (firewall string, err error) {
	attributes, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return "", fmt.Errorf("its verdict: %w", err)
	}
	attributes.ByteOrder = binary.BigEndian
	var kind expr.VerdictKind
	var chain string
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_VERDICT_CODE:
			kind = expr.VerdictKind(attributes.Int32())
		case unix.NFTA_VERDICT_CHAIN:
			chain = attributes.String()
		}
	}
	if err := attributes.Err(); err != nil {
		return "", fmt.Errorf("its verdict: %w", err)
	}
	firewall, isFirewall := strings.CutPrefix(chain, chainPrefix)
	if kind != expr.VerdictGoto || !isFirewall {
		return "", errors.New("it leads to no firewall")
	}
	return firewall, nil
}

func readChains(conn *nftables.Conn, wanted []chain, say sayer) error {
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	there := map[string]*nftables.Chain{}
	for _, c := range all {
		if c.Table.Name == tableName {
			there[c.Name] = c
		}
	}
	for _, want := range wanted {
		has := there[want.name]
		delete(there, want.name)
		if has == nil {
			say("chain %s is missing", want.name)
			continue
		}
		right, err := want.right(conn, has)
		if err != nil {
			return err
		}
		if !right {
			say("chain %s has other rules", want.name)
		}
	}
	for name := range there {
		say("chain %s should not be there", name)
	}
	return nil
}

// right says whether a chain of the kernel has exactly its rules.
func (c chain) right(conn *nftables.Conn, there *nftables.Chain) (bool, error) {
	has, err := conn.GetRules(table(), there)
	if err != nil {
		return false, fmt.Errorf("list rules of chain %s: %w", c.name, err)
	}
	right := c.is(there) && len(has) == len(c.rules)
	for i := 0; right && i < len(has); i++ {
		text, _ := userdata.GetString(has[i].UserData, userdata.TypeComment)
		right = text == c.rules[i].comment()
	}
	return right, nil
}

// spell writes an element for people.
func spell(key []byte) string {
	const port, endpoint = 8, 12 // address, protocol and port, each filled up to four bytes
	addr, _ := netip.AddrFromSlice(key[:min(len(key), 4)])
	switch len(key) {
	case port:
		return fmt.Sprintf("port %d, protocol %d", binary.BigEndian.Uint16(key[4:]), key[0])
	case endpoint:
		return fmt.Sprintf("%s, protocol %d", netip.AddrPortFrom(addr, binary.BigEndian.Uint16(key[8:])), key[4])
	}
	return addr.String()
}
