package egressguard

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Priorities of the chains. Standard ones are raw -300, connection tracking -200,
// mangle -150, destination NAT -100, source NAT 100.
const (
	beforeMarks   = -300 // nobody but the switch has marked anything
	afterMACs     = -140 // the mark has been read off the source MAC
	beforeDNAT    = -105 // nothing has translated the destination
	afterFilter   = 10   // iptables have refused what they know
	afterSNAT     = 110  // the source is what the packet will leave with
	registerFirst = 1    // NFT_REG_1
	registerNext  = 9    // NFT_REG32_01, which is the second quarter of the first
	egressMACs    = "\x0a\x59"
)

// chain is one with its rules, each with the comment by which it is known.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	rules    []rule
}

type rule struct {
	comment string
	exprs   []expr.Any
}

// ifname is a device's name as the kernel compares it.
func ifname(device string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, device)
	return b
}

// parts puts a rule together.
func parts(all ...[]expr.Any) []expr.Any {
	var joined []expr.Any
	for _, p := range all {
		joined = append(joined, p...)
	}
	return joined
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func counted() []expr.Any { return append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop)...) }

func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: registerFirst}, &expr.Cmp{Op: op, Register: registerFirst, Data: ifname(name)}}
}

func lookup(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: registerFirst, SetName: set}}
}

// mark loads the mark without the bit by which the service proxy asks for masquerading.
func (c Config) mark() []expr.Any {
	mask := binary.NativeEndian.AppendUint32(nil, ^(uint32(1) << c.MasqueradeBit))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: registerFirst},
		&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4, Mask: mask, Xor: make([]byte, 4)},
	}
}

// ipSource loads the source address.
func ipSource(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}}
}

func ipDestination() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: registerFirst, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}}
}

// onward matches a packet on the way that its connection took first.
func onward() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: registerFirst},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerFirst, Data: []byte{0}},
	}
}

// translated matches onward packets of connections whose source is translated.
func translated() []expr.Any {
	return append(onward(),
		&expr.Ct{Key: expr.CtKeySTATUS, Register: registerFirst},
		&expr.Bitwise{
			SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, sourceTranslated), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: make([]byte, 4)},
	)
}

// untracked matches a packet that belongs to no connection.
func untracked() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: registerFirst},
		&expr.Bitwise{
			SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4,
			Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitUNTRACKED|expr.CtStateBitINVALID), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: make([]byte, 4)},
	}
}

// sourceTranslated is IPS_SRC_NAT of the kernel's nf_conntrack_common.h.
const sourceTranslated = 1 << 4

// within matches what is loaded with a network.
func within(n netip.Prefix) []expr.Any {
	mask := bytes.Repeat([]byte{0}, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-n.Bits()))
	return []expr.Any{
		&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerFirst, Data: n.Masked().Addr().AsSlice()},
	}
}

// chains are all chains of the table.
func chains(c Config) []chain {
	return []chain{c.entering(), c.arriving(), c.connecting(), c.leaving()}
}

// entering is what comes from the switch and is not for the node itself.
func (c Config) entering() chain {
	marked, priority := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: registerFirst},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerFirst, Data: make([]byte, 4)},
	}, nftables.ChainPriority(beforeMarks)
	if c.Userspace {
		priority = afterMACs
		marked = []expr.Any{
			&expr.Payload{DestRegister: registerFirst, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 2},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: []byte(egressMACs)},
		}
	}
	local := binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
	pass := verdict(expr.VerdictReturn)
	return chain{"entering", nftables.ChainTypeFilter, *nftables.ChainHookPrerouting, priority, []rule{
		{"not from the switch", parts(device(expr.MetaKeyIIFNAME, expr.CmpOpNeq, c.Gateway), pass)},
		{"for the node itself", parts([]expr.Any{
			&expr.Fib{Register: registerFirst, FlagDADDR: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: registerFirst, Data: local},
		}, pass)},
		{"no egress IP's", parts(marked, pass)},
		{"open", parts([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: registerFirst}}, lookup(setOpen), pass)},
		{commentClosed, counted()},
	}}
}

// arriving is what begins with an egress IP as its destination: it is translated to that
// very address, and so by nobody else, be it for a node port.
func (c Config) arriving() chain {
	return chain{"arriving", nftables.ChainTypeNAT, *nftables.ChainHookPrerouting, beforeDNAT, []rule{{"stays", parts(
		ipDestination(), lookup(setHeld), ipDestination(),
		[]expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nftables.TableFamilyIPv4), RegAddrMin: registerFirst}},
	)}}}
}

// connecting is what wants to connect to an egress IP. iptables refuse it already, as on
// the ancestor's nodes; this is for when somebody has deleted their rule.
func (c Config) connecting() chain {
	isNew := binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW)
	return chain{"connecting", nftables.ChainTypeFilter, *nftables.ChainHookInput, afterFilter, []rule{{commentNew, parts(
		ipDestination(), lookup(setHeld),
		[]expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: registerFirst},
			&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4, Mask: isNew, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: make([]byte, 4)},
			&expr.Counter{},
			&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpPortUnreachable},
		},
	)}}}
}

// icmpPortUnreachable is RFC 792's code, as iptables refuses.
const icmpPortUnreachable = 3

// Comments of the rules that count; Dropped answers by them.
const (
	commentClosed  = "mark that is not open"
	commentNew     = "new connection to an egress IP"
	commentForeign = "not from the address of its mark"
	commentOther   = "from an egress IP without its mark"
)

// leaving is pods' packets on their way out of the node.
func (c Config) leaving() chain {
	pass := verdict(expr.VerdictReturn)
	ch := chain{"leaving", nftables.ChainTypeFilter, *nftables.ChainHookPostrouting, afterSNAT, []rule{
		{"to the switch", parts(device(expr.MetaKeyOIFNAME, expr.CmpOpEq, c.Gateway), pass)},
		{"from the address of its mark", parts(c.mark(), ipSource(registerNext), lookup(setPairs), pass)},
		{commentForeign, parts(translated(), c.mark(), lookup(setOpen), counted())},
		{commentOther, parts(translated(), ipSource(registerFirst), lookup(setHeld), counted())},
	}}
	// What nothing has translated: because a rule is missing, or it is not tracked. An answer
	// to a connection from outside leaves from the pod's own address; on netdev it
	// may have a mark.
	for _, n := range c.ClusterNetworks {
		ch.rules = append(ch.rules,
			rule{commentForeign, parts(onward(), ipSource(registerFirst), within(n), c.mark(), lookup(setOpen), counted())},
			rule{commentForeign, parts(untracked(), ipSource(registerFirst), within(n), c.mark(), lookup(setOpen), counted())},
		)
	}
	return ch
}

// comment is a rule's, as nft shows it.
func comment(text string) []byte { return userdata.AppendString(nil, userdata.TypeComment, text) }
