// Package egressmark makes the packet marks of egress IPs.
//
// It owns the one function on which a hosting node's flows (which set the mark)
// and its iptables rules (which match it, all 32 bits) must agree. It promises
// that two different pairs of VNID and slot never have the same mark, and that a
// mark never has a bit that is reserved. It is pure.
//
// Used by services/nodeagent, for flows and for rules.
package egressmark

import (
	"fmt"
	"net"
)

// Reserved are bits of the mark that mean something to others on the node.
type Reserved struct {
	// Masquerade is the number of the bit by which kube-proxy's rules mark what
	// is to be masqueraded, 0 to 31. OpenShift's is 0, Kubernetes' default is 14.
	Masquerade uint8
	// Drop says that bit 15 is reserved too: older kubelets drop what has it. Late
	// releases of OpenShift SDN avoid it, 3.11 did not.
	Drop bool
}

const (
	// MaxVNID is the largest VNID: it has 24 bits on the wire.
	MaxVNID = 1<<24 - 1
	// MaxSlot is the largest slot, that is, a node can host 63 addresses of one
	// VNID. One more would give a VNID the mark of VNID 0.
	MaxSlot = 62

	zero       = 0xff000000 // stands for VNID 0, since a mark of 0 is none
	dropBit    = 1 << 15
	movedDrop  = 1 << 28
	movedMasq  = 1 << 24
	zeroSlotAt = 17 // slots of VNID 0: its high bits are all set
)

// Of answers the mark of an address of a VNID: of the first for slot 0, which is
// the ancestor's mark, and of further ones of the same VNID on the same node. It
// fails for a VNID or slot that is out of range, and for a slot above 0 when the
// masquerade bit is above 15, where slots are.
func Of(vnid, slot uint32, reserved Reserved) (uint32, error) {
	switch {
	case vnid > MaxVNID:
		return 0, fmt.Errorf("VNID %d: the largest is %d", vnid, MaxVNID)
	case slot > MaxSlot:
		return 0, fmt.Errorf("slot %d of VNID %d: the largest is %d", slot, vnid, MaxSlot)
	case reserved.Masquerade > 31:
		return 0, fmt.Errorf("masquerade bit %d: the largest is 31", reserved.Masquerade)
	case slot > 0 && reserved.Masquerade > 15:
		return 0, fmt.Errorf("slot %d of VNID %d: the masquerade bit is %d, and slots need the bits above 15", slot, vnid, reserved.Masquerade)
	}
	mark := vnid
	if vnid == 0 {
		mark = zero
	}
	if reserved.Drop && mark&dropBit != 0 {
		mark = mark&^dropBit | movedDrop
	}
	if masq := uint32(1) << reserved.Masquerade; mark&masq != 0 {
		// In this order, as the ancestor does: should the bit be 24 itself, it goes.
		mark = (mark | movedMasq) &^ masq
	}
	if vnid == 0 {
		return mark | slot<<zeroSlotAt, nil
	}
	// Bits 25, 26, 27 and 29, 30, 31: 24 and 28 are where reserved bits moved to.
	return mark | slot&7<<25 | slot>>3<<29, nil
}

// MAC answers the source address by which a packet carries its mark to the
// node's kernel on the netdev datapath, where marks do not cross: 0a:59 and the
// four bytes of the mark.
func MAC(mark uint32) net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0x59, byte(mark >> 24), byte(mark >> 16), byte(mark >> 8), byte(mark)}
}
