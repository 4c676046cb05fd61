package firewallguard

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const (
	tableName  = "damask_firewall"
	chainName  = "forward"
	setFree    = "free"    // pods without firewall
	setPods    = "pods"    // the number of each other pod's firewall
	setAllowed = "allowed" // number, address, protocol and port of what may pass
	// atOnce is how many elements are sent in one message.
	atOnce = 500
	// beforeFilter is the chain's priority: filter is 0, and where it accepts does not matter.
	beforeFilter = -10
	// destinationTranslated is IPS_DST_NAT of the kernel's nf_conntrack_common.h.
	destinationTranslated = 1 << 5
	// first, second, third and fourth are NFT_REG32_00 to _03, of which an element of
	// setAllowed is made.
	first, second, third, fourth = 8, 9, 10, 11
)

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
}

func sets() (free, pods, allowed *nftables.Set) {
	t := table()
	free = &nftables.Set{Table: t, Name: setFree, KeyType: nftables.TypeIPAddr}
	pods = &nftables.Set{Table: t, Name: setPods, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark, KeyByteOrder: binaryutil.BigEndian}
	allowed = &nftables.Set{
		Table: t, Name: setAllowed, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	}
	return free, pods, allowed
}

func read(conn *nftables.Conn) (contents, error) {
	c := newContents()
	free, pods, allowed := sets()
	for _, s := range []struct {
		set *nftables.Set
		to  map[string]string
	}{{free, c.free}, {pods, c.pods}, {allowed, c.allowed}} {
		elements, err := conn.GetSetElements(s.set)
		if err != nil {
			return c, fmt.Errorf("read set %s: %w", s.set.Name, err)
		}
		for _, e := range elements {
			s.to[string(e.Key)] = string(e.Val)
		}
	}
	return c, nil
}

func (c contents) clone() contents {
	return contents{maps.Clone(c.free), maps.Clone(c.pods), maps.Clone(c.allowed)}
}

// difference sends what differs, and answers a line for each element.
func difference(conn *nftables.Conn, set *nftables.Set, has, want map[string]string, errs *[]error) (lines []string) {
	element := func(key, value string) nftables.SetElement {
		e := nftables.SetElement{Key: []byte(key)}
		if set.IsMap {
			e.Val = []byte(value)
		}
		return e
	}
	var gone, added []nftables.SetElement
	for key, value := range has {
		if is, wanted := want[key]; !wanted || is != value {
			gone = append(gone, element(key, value))
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %x should not be there", tableName, set.Name, key))
		}
	}
	for key, value := range want {
		if was, there := has[key]; !there || was != value {
			added = append(added, element(key, value))
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %x is missing", tableName, set.Name, key))
		}
	}
	for some := range slices.Chunk(gone, atOnce) {
		*errs = append(*errs, conn.SetDeleteElements(set, some))
	}
	for some := range slices.Chunk(added, atOnce) {
		*errs = append(*errs, conn.SetAddElements(set, some))
	}
	return lines
}

// rules are those of the chain, each passing what it knows; what is left ends.
func rules(c Config) [][]expr.Any {
	gateway := c.Gateway
	if gateway == "" {
		gateway = defaultGateway
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-c.Pods.Bits()))
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, gateway)
	status := binary.NativeEndian.AppendUint32(nil, destinationTranslated)
	source := &expr.Payload{DestRegister: first, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	pass := &expr.Verdict{Kind: expr.VerdictReturn}
	return [][]expr.Any{
		{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name}, pass},
		{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name}, pass},
		{
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: status, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)}, pass,
		},
		{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}}, pass},
		{
			source, &expr.Bitwise{SourceRegister: first, DestRegister: first, Len: 4, Mask: mask, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: first, Data: c.Pods.Masked().Addr().AsSlice()}, pass,
		},
		{
			source, &expr.Lookup{SourceRegister: first, DestRegister: first, IsDestRegSet: true, SetName: setPods},
			&expr.Payload{DestRegister: second, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: third},
			&expr.Payload{DestRegister: fourth, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: first, SetName: setAllowed}, pass,
		},
		{source, &expr.Lookup{SourceRegister: first, SetName: setFree}, pass},
		{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}},
	}
}

// ensureChain makes table, sets and chain if they are not there, and the chain anew if its
// rules are not these: each rule's comment has a digest of all of them.
func ensureChain(conn *nftables.Conn, config Config) (repairs []string, err error) {
	t := conn.AddTable(table())
	free, pods, allowed := sets()
	for _, set := range []*nftables.Set{free, pods, allowed} {
		if err := conn.AddSet(set, nil); err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("table and sets: %w", err)
	}
	all := rules(config)
	digest := fnv.New32a()
	for _, r := range all {
		for _, e := range r {
			if bytes, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e); err == nil { // what cannot be sent, sending refuses
				_, _ = digest.Write(bytes)
			}
		}
	}
	mark := fmt.Sprintf("damask %08x", digest.Sum32())
	there, right, err := chainIs(conn, t, len(all), mark)
	if err != nil || right {
		return nil, err
	}
	accept, hook, priority := nftables.ChainPolicyAccept, *nftables.ChainHookForward, nftables.ChainPriority(beforeFilter)
	c := &nftables.Chain{Table: t, Name: chainName, Type: nftables.ChainTypeFilter, Hooknum: &hook, Priority: &priority, Policy: &accept}
	if there {
		conn.FlushChain(c)
	}
	conn.AddChain(c)
	for _, r := range all {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: r, UserData: userdata.AppendString(nil, userdata.TypeComment, mark)})
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("chain %s: %w", chainName, err)
	}
	return []string{fmt.Sprintf("nftables: table %s: chain %s made anew", tableName, chainName)}, nil
}

// chainIs says whether the chain is there, and whether it has so many rules of a mark.
func chainIs(conn *nftables.Conn, t *nftables.Table, count int, mark string) (there, right bool, err error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, false, fmt.Errorf("list chains: %w", err)
	}
	if !slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == tableName && c.Name == chainName }) {
		return false, false, nil
	}
	has, err := conn.GetRules(t, &nftables.Chain{Table: t, Name: chainName})
	if err != nil {
		return true, false, fmt.Errorf("list rules: %w", err)
	}
	right = len(has) == count
	for _, r := range has {
		text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		right = right && text == mark
	}
	return true, right, nil
}

// dropped reads the counter of the last rule.
func dropped(conn *nftables.Conn) (packets uint64, err error) {
	t := table()
	has, err := conn.GetRules(t, &nftables.Chain{Table: t, Name: chainName})
	if err != nil {
		return 0, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range has {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				packets += c.Packets
			}
		}
	}
	return packets, nil
}
