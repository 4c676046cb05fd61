package nftables

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// item is one element of a set: bytes as the kernel keeps them. The value is empty
// where the set is no map.
type item struct{ set, key, value string }

// anyAddress stands for every address of the node in a frontend.
var anyAddress = netip.IPv4Unspecified()

// scope is one of a service's lists of backends.
type scope struct {
	name string
	// base is the scope's first index in the backends map.
	base uint32
}

// maxBackends is how many backends a service port can have: an index of a scope is below
// the next one's base.
const maxBackends = 1 << 15

var (
	clusterScope  = scope{name: "cluster"}
	externalScope = scope{name: "external", base: maxBackends}
	ownScope      = scope{name: "own", base: 2 * maxBackends}
)

// scopes are all scopes.
func scopes() []scope { return []scope{clusterScope, externalScope, ownScope} }

// affine is the name of the scope's set of backends that an affinity may name.
func (s scope) affine() string { return "affine_" + s.name }

// balance is the name of the scope's chain that finds the choice for a frontend.
func (s scope) balance() string { return "balance-" + s.name }

// choice says how one of the backends is chosen.
type choice struct {
	scope    scope
	count    int
	affinity time.Duration
}

// name is the name of the chain that chooses so, and of the set of the frontends that
// it chooses for.
func (c choice) name() string {
	if c.affinity == 0 {
		return fmt.Sprintf("pick-%s-%d", c.scope.name, c.count)
	}
	return fmt.Sprintf("sticky-%s-%d-%d", c.scope.name, c.count, c.affinity/time.Second)
}

// compare orders choices: what most services have comes first.
func (c choice) compare(other choice) int {
	return cmp.Or(cmp.Compare(c.scope.name, other.scope.name), cmp.Compare(c.affinity, other.affinity), cmp.Compare(c.count, other.count))
}

// number is how the kernel keeps a number that it computes with itself.
func number(n uint32) string { return string(binary.NativeEndian.AppendUint32(nil, n)) }

func address(a netip.Addr) string { return string(a.AsSlice()) }

// length is the length of a network, 0 to 32, written as an address: 0.0.0.24.
func length(bits int) netip.Addr { return netip.AddrFrom4([4]byte{3: byte(bits)}) }

// port fills a register: two bytes and two of nothing.
func port(p uint16) string { return string([]byte{byte(p >> 8), byte(p), 0, 0}) }

func frontend(a netip.Addr, protocol proxy.Protocol, p uint16) string {
	return address(a) + string([]byte{protocolNumber(protocol), 0, 0, 0}) + port(p)
}

// protocolNumber is IANA's.
func protocolNumber(p proxy.Protocol) byte {
	return map[proxy.Protocol]byte{proxy.TCP: 6, proxy.UDP: 17, proxy.SCTP: 132}[p]
}

// identity is a service port's key, in eight bytes. It must stay the same when the
// agent starts anew, since the kernel remembers it. Two among a million services have
// the same by a chance of 1 to 36 million.
func identity(key proxy.Key) string {
	sum := sha256.Sum256([]byte(key.String() + "/" + string(key.Protocol)))
	return string(sum[:8])
}

// items are elements, each once.
type items map[item]struct{}

func (i items) add(set, key, value string) { i[item{set, key, value}] = struct{}{} }

// compiled is what a service port needs.
type compiled struct {
	items items
	// choices are the sets and chains that it needs. Other services can need them too.
	choices map[choice]bool
}

// compile answers what a service port needs.
func compile(s proxy.Service) compiled {
	all := compiled{items{}, map[choice]bool{}}
	// Verdicts are about the backends that this engine can program.
	s.ClusterBackends, s.OwnBackends, s.ExternalBackends = ofFamily(s.ClusterBackends), ofFamily(s.OwnBackends), ofFamily(s.ExternalBackends)
	done := map[netip.Addr]bool{}
	once := func(list []netip.Addr, fn func(netip.Addr)) {
		for _, a := range list {
			if a.Is4() && !done[a] {
				done[a] = true
				fn(a)
			}
		}
	}
	once(s.ClusterIPs, func(a netip.Addr) { all.internal(s, frontend(a, s.Protocol, s.Port)) })
	way, limitedWay := external, limited
	if s.ExternalLocal {
		way, limitedWay = externalLocal, limitedLocal
	}
	once(s.ExternalIPs, func(a netip.Addr) { all.external(s, frontend(a, s.Protocol, s.Port), way) })
	once(s.LoadBalancerIPs, func(a netip.Addr) {
		f := frontend(a, s.Protocol, s.Port)
		if len(s.SourceRanges) == 0 {
			all.external(s, f, way)
			return
		}
		all.external(s, f, limitedWay)
		for _, p := range s.SourceRanges {
			if p.Addr().Is4() {
				all.items.add(setSources, f+address(p.Addr())+address(length(p.Bits())), "")
			}
		}
	})
	if s.NodePort != 0 {
		all.external(s, frontend(anyAddress, s.Protocol, s.NodePort), way)
	}
	return all
}

// internal adds a frontend for the cluster's own clients.
func (c compiled) internal(s proxy.Service, f string) {
	verdict := s.ClusterVerdict()
	c.refuse(f, verdict, verdict)
	if verdict == proxy.Forward {
		c.items.add(cluster.set(), f, "")
		c.balance(s, f, clusterScope, s.ClusterBackends)
	}
}

// external adds a frontend for the world.
func (c compiled) external(s proxy.Service, f string, by way) {
	inside, outside := s.ExternalVerdict(), s.ExternalVerdict()
	if s.ExternalLocal {
		inside = s.ClusterVerdict()
	}
	c.refuse(f, inside, outside)
	if inside != proxy.Forward && outside != proxy.Forward {
		return
	}
	c.items.add(by.set(), f, "")
	if s.ExternalLocal {
		c.balance(s, f, clusterScope, s.ClusterBackends)
		c.balance(s, f, ownScope, s.OwnBackends)
	}
	c.balance(s, f, externalScope, s.ExternalBackends)
}

func (c compiled) refuse(f string, insideVerdict, outsideVerdict proxy.Verdict) {
	for _, r := range refusals() {
		if r.verdict == insideVerdict && r.side == inside || r.verdict == outsideVerdict && r.side == outside {
			c.items.add(r.set(), f, "")
		}
	}
}

// balance adds the backends of a frontend. They are in order, so that the same list in
// another order is no change.
func (c compiled) balance(s proxy.Service, f string, in scope, backends []proxy.Backend) {
	list := sorted(backends)
	if in != ownScope { // There one that is listed several times gets so many shares.
		list = slices.Compact(list)
	}
	if len(list) == 0 {
		return
	}
	chosen := choice{in, len(list), s.Affinity}
	c.choices[chosen] = true
	c.items.add(chosen.name(), f, "")
	for index, b := range list {
		to := address(b.Addr()) + port(b.Port())
		c.items.add(setBackends, f+number(in.base+uint32(index)), to)
		c.items.add(setHairpin, address(b.Addr())+address(b.Addr()), "")
		if s.Affinity != 0 {
			c.items.add(setSticky, f, identity(s.Key))
			c.items.add(in.affine(), to+identity(s.Key), "")
		}
	}
}

// ofFamily are the backends of this engine's family.
func ofFamily(backends []proxy.Backend) []proxy.Backend {
	var list []proxy.Backend
	for _, b := range backends {
		if b.Addr.Is4() {
			list = append(list, b)
		}
	}
	return list
}

// sorted are backends in order.
func sorted(backends []proxy.Backend) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, len(backends))
	for _, b := range backends {
		list = append(list, netip.AddrPortFrom(b.Addr, b.Port))
	}
	slices.SortFunc(list, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return list
}

// checkSize refuses what a choice cannot hold.
func checkSize(s proxy.Service) error {
	if n := max(len(s.ClusterBackends), len(s.OwnBackends), len(s.ExternalBackends)); n > maxBackends {
		return fmt.Errorf("service %v: %d backends are more than %d", s.Key, n, maxBackends)
	}
	return nil
}
