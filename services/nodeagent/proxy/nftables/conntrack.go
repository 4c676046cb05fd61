package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// udp is the one protocol whose conntrack entries outlive what made them: they have no
// end, and every packet prolongs them.
const udp = 17

// stale are the conntrack entries that a transaction makes wrong.
type stale struct {
	// removed are backends that went, by frontend.
	removed map[string]map[netip.AddrPort]bool
	// opened are frontends that were none before.
	opened map[string]bool
}

// forgetStale deletes the conntrack entries of UDP that a transaction, which was
// committed, made wrong. Other protocols' connections stay with their backend.
func forgetStale(t transaction) error {
	s := staleAfter(t)
	if len(s.removed) == 0 && len(s.opened) == 0 {
		return nil
	}
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open conntrack socket: %w", err)
	}
	defer handle.Close()
	if _, err := handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, s); err != nil {
		return fmt.Errorf("delete conntrack entries of udp: %w", err)
	}
	return nil
}

// staleAfter finds in the elements that come and go which entries are wrong now.
func staleAfter(t transaction) stale {
	s := stale{removed: map[string]map[netip.AddrPort]bool{}, opened: map[string]bool{}}
	if t.anew {
		return s
	}
	for i := range t.taken {
		if f, ok := udpFrontend(i, setBackends); ok {
			if s.removed[f] == nil {
				s.removed[f] = map[netip.AddrPort]bool{}
			}
			s.removed[f][backendOf(i.value)] = true
		}
	}
	for i := range t.added {
		// The same backend, at another index.
		if f, ok := udpFrontend(i, setBackends); ok {
			delete(s.removed[f], backendOf(i.value))
		}
	}
	for _, w := range ways() {
		for i := range t.added {
			if f, ok := udpFrontend(i, w.set()); ok {
				s.opened[f] = true
			}
		}
	}
	for _, w := range ways() {
		for i := range t.taken {
			// The same frontend, by another way.
			if f, ok := udpFrontend(i, w.set()); ok {
				delete(s.opened, f)
			}
		}
	}
	for f, backends := range s.removed {
		if len(backends) == 0 {
			delete(s.removed, f)
		}
	}
	return s
}

// udpFrontend answers the frontend of an element of one set, if its protocol is UDP.
func udpFrontend(i item, set string) (string, bool) {
	const protocolOffset, length = 4, 12 // address, protocol, port, each in four bytes
	return i.key[:min(length, len(i.key))], i.set == set && i.key[protocolOffset] == udp
}

func backendOf(value string) netip.AddrPort {
	addr, _ := netip.AddrFromSlice([]byte(value[:4]))
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16([]byte(value[4:6])))
}

// MatchConntrackFlow says that an entry is wrong now. (The library asks for this name.)
func (s stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != udp {
		return false
	}
	asked, ok1 := netip.AddrFromSlice(flow.Forward.DstIP.To4())
	answers, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP.To4())
	if !ok1 || !ok2 {
		return false
	}
	backend := netip.AddrPortFrom(answers, flow.Reverse.SrcPort)
	untranslated := backend == netip.AddrPortFrom(asked, flow.Forward.DstPort)
	for _, a := range []netip.Addr{asked, anyAddress} {
		f := frontend(a, "UDP", flow.Forward.DstPort)
		if s.removed[f][backend] || s.opened[f] && untranslated {
			return true
		}
	}
	return false
}
