package firewallguard

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// What the table has, as nft prints it. nft (1.0.6) ends in an assertion when what a map
// gave is a part of another key; so the map leads to a chain for each firewall.
const (
	tableName    = "damask_firewall"
	chainForward = "forward"  // finds what is to be judged
	chainJudge   = "judge"    // judges it
	chainRefuse  = "refuse"   // counts what ends
	setNodes     = "nodes"    // addresses of other nodes
	setPorts     = "ports"    // protocols and node ports of services that lead outside
	setFree      = "free"     // pods without firewall
	setPods      = "pods"     // the chain of each other pod's firewall
	chainPrefix  = "fw-"      // and a firewall's name: its chain
	setPrefix    = "allowed-" // and a firewall's name: addresses, protocols and ports of what may pass
)

const (
	// beforeFilter is the chain's priority: filter is 0, and where it accepts does not matter.
	beforeFilter = -10
	// destinationTranslated is IPS_DST_NAT of the kernel's nf_conntrack_common.h.
	destinationTranslated = 1 << 5
	// first, second and third are NFT_REG32_00 to _02, of which an element of what is allowed
	// is made.
	first, second, third = unix.NFT_REG32_00, unix.NFT_REG32_01, unix.NFT_REG32_02
)

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
}

func nodesSet() *nftables.Set {
	return &nftables.Set{Table: table(), Name: setNodes, KeyType: nftables.TypeIPAddr}
}

func portsSet() *nftables.Set {
	return &nftables.Set{
		Table: table(), Name: setPorts, Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
	}
}

func freeSet() *nftables.Set {
	return &nftables.Set{Table: table(), Name: setFree, KeyType: nftables.TypeIPAddr}
}

func podsMap() *nftables.Set {
	return &nftables.Set{Table: table(), Name: setPods, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeVerdict}
}

func allowedSet(firewall string) *nftables.Set {
	return &nftables.Set{
		Table: table(), Name: setPrefix + firewall, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	}
}

// chain is one with its rules. Only the one with hook sees packets by itself.
type chain struct {
	name  string
	hook  bool
	rules []rule
}

// rule is known by its comment.
type rule struct {
	about string
	exprs []expr.Any
}

// comment says what a rule is for, and what it does as a digest: nobody changes a rule and
// keeps its comment by accident.
func (r rule) comment() string {
	digest := fnv.New32a()
	for _, e := range r.exprs {
		if bytes, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e); err == nil { // what cannot be sent, sending refuses
			_, _ = digest.Write(bytes)
		}
	}
	return fmt.Sprintf("%s #%08x", r.about, digest.Sum32())
}

func (c chain) chain() *nftables.Chain {
	made := &nftables.Chain{Table: table(), Name: c.name}
	if c.hook {
		accept, priority := nftables.ChainPolicyAccept, nftables.ChainPriority(beforeFilter)
		made.Type, made.Hooknum, made.Priority, made.Policy = nftables.ChainTypeFilter, nftables.ChainHookForward, &priority, &accept
	}
	return made
}

// is says that a chain of the kernel is bound as this one.
func (c chain) is(there *nftables.Chain) bool {
	if !c.hook {
		return there.Hooknum == nil
	}
	return there.Hooknum != nil && *there.Hooknum == *nftables.ChainHookForward && there.Priority != nil && *there.Priority == beforeFilter &&
		there.Type == nftables.ChainTypeFilter && there.Policy != nil && *there.Policy == nftables.ChainPolicyAccept
}

// addRules sends the rules of a chain that has none.
func (c chain) addRules(conn *nftables.Conn) {
	for _, r := range c.rules {
		conn.AddRule(&nftables.Rule{Table: table(), Chain: c.chain(), Exprs: r.exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment())})
	}
}

// standing are the chains that are there without any firewall. Each rule passes what it
// knows; what is left ends.
func standing(c Config) []chain {
	gateway := c.Gateway
	if gateway == "" {
		gateway = defaultGateway
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, gateway)
	source := payload(expr.PayloadBaseNetworkHeader, 12, net.IPv4len, first)
	strange := []expr.Any{
		source, &expr.Bitwise{SourceRegister: first, DestRegister: first, Len: net.IPv4len, Mask: net.CIDRMask(c.Pods.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: first, Data: c.Pods.Masked().Addr().AsSlice()},
	}
	toNode := []expr.Any{payload(expr.PayloadBaseNetworkHeader, 16, net.IPv4len, first), &expr.Lookup{SourceRegister: first, SetName: setNodes}}
	pass := &expr.Verdict{Kind: expr.VerdictReturn}
	judge := &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainJudge}
	return []chain{
		{chainForward, true, []rule{
			{"not from the switch", []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name}, pass}},
			{"to the switch", []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name}, pass}},
			{"answers", []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}}, pass}},
			{"to another node, which may lead it outside", slices.Concat(toNode, []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: first}, payload(expr.PayloadBaseTransportHeader, 2, 2, second),
				&expr.Lookup{SourceRegister: first, SetName: setPorts}, judge,
			})},
			{"to no service", slices.Concat(translated(expr.CmpOpEq), []expr.Any{pass})},
			{"all others", []expr.Any{judge}},
		}},
		{chainJudge, false, []rule{
			{"another node's pod, to a node", slices.Concat(strange, translated(expr.CmpOpNeq), toNode, []expr.Any{pass})},
			{"another node's pod", slices.Concat(strange, []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chainRefuse}})},
			{"by the pod's firewall", []expr.Any{source, &expr.Lookup{SourceRegister: first, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: setPods}}},
			{"a pod without firewall", []expr.Any{source, &expr.Lookup{SourceRegister: first, SetName: setFree}, pass}},
			{"a pod that is not known", []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chainRefuse}}},
		}},
		{chainRefuse, false, []rule{{"all that ends", []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}}}},
	}
}

// translated matches by whether a packet's destination was: compared with zero.
func translated(op expr.CmpOp) []expr.Any {
	status := binary.NativeEndian.AppendUint32(nil, destinationTranslated)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: status, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

// firewallChain is where the packets of a firewall's pods end, unless they are allowed.
func firewallChain(firewall string) chain {
	return chain{chainPrefix + firewall, false, []rule{
		{"allowed", []expr.Any{
			payload(expr.PayloadBaseNetworkHeader, 16, net.IPv4len, first), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: second},
			// The destination port is at byte 2 in TCP, UDP and SCTP.
			payload(expr.PayloadBaseTransportHeader, 2, 2, third),
			&expr.Lookup{SourceRegister: first, SetName: setPrefix + firewall}, &expr.Verdict{Kind: expr.VerdictReturn},
		}},
		{"not allowed", []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainRefuse}}},
	}}
}

func payload(base expr.PayloadBase, offset, length, to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: base, Offset: offset, Len: length}
}
