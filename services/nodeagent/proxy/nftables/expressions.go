package nftables

import (
	"net"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// register is one of the kernel's sixteen registers of four bytes. Values of several
// parts lie in registers that follow one another.
type register uint32

// r is the nth register, 0 to 15.
func r(n uint32) register { return register(unix.NFT_REG32_00 + n) }

// Where addresses are in an IPv4 header, and ports in headers of TCP, UDP and SCTP.
const (
	offsetSource      = 12
	offsetDestination = 16
	offsetPort        = 2
)

type expressions = []expr.Any

func load(offset uint32, to register) expr.Any {
	return &expr.Payload{DestRegister: uint32(to), Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: net.IPv4len}
}

// constant makes an address that is the same for every packet. It is computed from an
// address of the packet, because nft's listing ends in an assertion when it meets a
// plain zero in a key of several parts.
func constant(a netip.Addr, to register) expressions {
	return expressions{
		load(offsetDestination, to),
		&expr.Bitwise{SourceRegister: uint32(to), DestRegister: uint32(to), Len: net.IPv4len, Mask: make([]byte, net.IPv4len), Xor: a.AsSlice()},
	}
}

// loadFrontend fills three registers with the packet's frontend.
func loadFrontend(to register, kind frontendKind) expressions {
	destination := expressions{load(offsetDestination, to)}
	if kind == ofNode {
		destination = constant(anyAddress, to)
	}
	return append(destination,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: uint32(to + 1)},
		&expr.Payload{DestRegister: uint32(to + 2), Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2})
}

// frontendKind says which frontend of a packet is meant.
type frontendKind int

const (
	// ofAddress is the frontend of the packet's own destination.
	ofAddress frontendKind = iota
	// ofNode is the frontend of any address of the node.
	ofNode
)

// find looks a key up in a map and puts what it finds into registers. What is not
// there ends the rule.
func find(set string, key, to register) expr.Any {
	return &expr.Lookup{SetName: set, SourceRegister: uint32(key), DestRegister: uint32(to), IsDestRegSet: true}
}

// contains ends the rule when the set lacks the key.
func contains(set string, key register) expr.Any {
	return &expr.Lookup{SetName: set, SourceRegister: uint32(key)}
}

func verdict(kind expr.VerdictKind, chain string) expr.Any {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func jump(chain string) expr.Any { return verdict(expr.VerdictJump, chain) }
func goTo(chain string) expr.Any { return verdict(expr.VerdictGoto, chain) }

// within ends the rule unless an address of the packet is in a network.
func within(offset uint32, network netip.Prefix, op expr.CmpOp) expressions {
	list := masked(offset, network.Bits(), r(0))
	return append(list, &expr.Cmp{Op: op, Register: uint32(r(0)), Data: network.Addr().AsSlice()})
}

// masked loads the network part of an address.
func masked(offset uint32, bits int, to register) expressions {
	list := expressions{load(offset, to)}
	if bits == net.IPv4len*8 {
		return list
	}
	return append(list, &expr.Bitwise{
		SourceRegister: uint32(to), DestRegister: uint32(to), Len: net.IPv4len,
		Mask: net.CIDRMask(bits, net.IPv4len*8), Xor: make([]byte, net.IPv4len),
	})
}

// own ends the rule unless an address of the packet is one of the node's.
func own(source bool, use register) expressions {
	return expressions{
		&expr.Fib{Register: uint32(use), ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: expr.CmpOpEq, Register: uint32(use), Data: []byte(number(unix.RTN_LOCAL))},
	}
}

// setMark sets the bit of mark, or clears it.
func setMark(mark uint32, on bool) expressions {
	xor := uint32(0)
	if on {
		xor = mark
	}
	return expressions{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: uint32(r(0))},
		&expr.Bitwise{SourceRegister: uint32(r(0)), DestRegister: uint32(r(0)), Len: 4, Mask: []byte(number(^mark)), Xor: []byte(number(xor))},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: uint32(r(0)), SourceRegister: true},
	}
}

// anyBit ends the rule unless what was loaded has one of the bits.
func anyBit(loaded expr.Any, bits uint32) expressions {
	return expressions{
		loaded,
		&expr.Bitwise{SourceRegister: uint32(r(0)), DestRegister: uint32(r(0)), Len: 4, Mask: []byte(number(bits)), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: uint32(r(0)), Data: make([]byte, 4)},
	}
}

// Bits of conntrack's state and status, from linux/netfilter/nf_conntrack_common.h.
const (
	stateNew  = 1 << 3
	statusNAT = 1 << 5 // IPS_DST_NAT
)

func isNew() expressions {
	return anyBit(&expr.Ct{Register: uint32(r(0)), Key: expr.CtKeySTATE}, stateNew)
}

func isTranslated() expressions {
	return anyBit(&expr.Ct{Register: uint32(r(0)), Key: expr.CtKeySTATUS}, statusNAT)
}

func isMarked(mark uint32) expressions {
	return anyBit(&expr.Meta{Key: expr.MetaKeyMARK, Register: uint32(r(0))}, mark)
}

// draw puts one of count numbers from base on into a register.
func draw(base uint32, count int, to register) expr.Any {
	return &expr.Numgen{Register: uint32(to), Modulus: uint32(count), Type: unix.NFT_NG_RANDOM, Offset: base}
}

// remember puts or renews a client's backend.
func remember(key, backend register, timeout time.Duration) expr.Any {
	return &expr.Dynset{
		SetName: setAffinity, SrcRegKey: uint32(key), SrcRegData: uint32(backend),
		Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout,
	}
}

// translate sends the connection to the address and port in two registers.
func translate(to register) expr.Any {
	return &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
		RegAddrMin: uint32(to), RegProtoMin: uint32(to + 1), Specified: true,
	}
}

// reject answers ICMP port unreachable: the end of a connection attempt for TCP too.
func reject() expr.Any {
	const portUnreachable = 3
	return &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreachable}
}
