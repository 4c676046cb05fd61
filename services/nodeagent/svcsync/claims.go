package svcsync

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// claimant is a service port that wants a frontend.
type claimant struct {
	key proxy.Key
	// given: servicelb has given it to this service, and to no other. External IPs are
	// anybody's who names them.
	given bool
	// revision is the service's.
	revision uint64
}

// contest is all who want one frontend. One of them has it.
type contest struct {
	holder    proxy.Key
	claimants []claimant
}

// claims says who has which frontend when several services want it: whoever was given
// it; else who has it already; else the one that was changed least lately. So no
// service loses anything because another comes, unless it was never its own.
type claims struct {
	contests map[Frontend]*contest
	wants    map[proxy.Key]map[Frontend]bool // a frontend, and whether it was given
}

func newClaims() claims {
	return claims{contests: map[Frontend]*contest{}, wants: map[proxy.Key]map[Frontend]bool{}}
}

// frontendsWanted are the frontends that an entry claims, and whether each was given.
func frontendsWanted(e proxy.Service) map[Frontend]bool {
	wants := map[Frontend]bool{}
	for _, f := range frontendsOf(e) {
		wants[f] = !slices.Contains(e.ExternalIPs, f.Address)
	}
	for _, list := range [][]netip.Addr{e.ClusterIPs, e.LoadBalancerIPs} {
		for _, a := range list {
			wants[Frontend{a, e.Protocol, e.Port}] = true
		}
	}
	if e.HealthCheckNodePort != 0 {
		wants[Frontend{Protocol: proxy.TCP, Port: e.HealthCheckNodePort}] = true
	}
	return wants
}

// set replaces what a service port wants; nothing: it is gone. It answers the other
// service ports that have got or lost something by it.
func (c claims) set(key proxy.Key, revision uint64, wants map[Frontend]bool) []proxy.Key {
	others := map[proxy.Key]bool{}
	for f := range c.wants[key] {
		if _, still := wants[f]; !still {
			c.change(f, key, nil, others)
		}
	}
	for f, given := range wants {
		c.change(f, key, &claimant{key, given, revision}, others)
	}
	if len(wants) == 0 {
		delete(c.wants, key)
	} else {
		c.wants[key] = wants
	}
	delete(others, key)
	return slices.SortedFunc(maps.Keys(others), proxy.Key.Compare)
}

// change puts one claimant in, or takes it out, and adds to affected who had the
// frontend before or has it now, if that changes.
func (c claims) change(f Frontend, key proxy.Key, wants *claimant, affected map[proxy.Key]bool) {
	now := c.contests[f]
	if now == nil {
		now = &contest{}
		c.contests[f] = now
	}
	now.claimants = slices.DeleteFunc(now.claimants, func(other claimant) bool { return other.key == key })
	if wants != nil {
		now.claimants = append(now.claimants, *wants)
	}
	if len(now.claimants) == 0 {
		delete(c.contests, f)
		return
	}
	if before := now.holder; now.decide() != before {
		affected[before], affected[now.holder] = true, true
		delete(affected, proxy.Key{})
	}
}

// decide says who has the frontend from now on.
func (c *contest) decide() proxy.Key {
	winner := slices.MinFunc(c.claimants, func(a, b claimant) int {
		return cmp.Or(
			before(a.given, b.given),
			before(a.key == c.holder, b.key == c.holder),
			cmp.Compare(a.revision, b.revision),
			a.key.Compare(b.key),
		)
	})
	c.holder = winner.key
	return c.holder
}

// before orders what is true before what is not.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// has says whether a service port has a frontend that it wants.
func (c claims) has(key proxy.Key, f Frontend) bool {
	now := c.contests[f]
	return now != nil && now.holder == key
}

// share leaves to an entry what it has, and says what it has not.
func (c claims) share(e proxy.Service) (proxy.Service, []string) {
	var problems []string
	lost := func(f Frontend) bool {
		if c.has(e.Key, f) {
			return false
		}
		text := fmt.Sprintf("%v is left out: it belongs to %v", f, c.contests[f].holder)
		if !slices.Contains(problems, text) {
			problems = append(problems, text)
		}
		return true
	}
	for _, list := range []*[]netip.Addr{&e.ClusterIPs, &e.ExternalIPs, &e.LoadBalancerIPs} {
		if slices.ContainsFunc(*list, func(a netip.Addr) bool { return lost(Frontend{a, e.Protocol, e.Port}) }) {
			*list = slices.DeleteFunc(slices.Clone(*list), func(a netip.Addr) bool { return lost(Frontend{a, e.Protocol, e.Port}) })
		}
	}
	if e.NodePort != 0 && lost(Frontend{Protocol: e.Protocol, Port: e.NodePort}) {
		e.NodePort = 0
	}
	if e.HealthCheckNodePort != 0 && lost(Frontend{Protocol: proxy.TCP, Port: e.HealthCheckNodePort}) {
		e.HealthCheckNodePort = 0
	}
	return e, problems
}

// String prints a frontend for an error.
func (f Frontend) String() string {
	if !f.Address.IsValid() {
		return fmt.Sprintf("node port %d/%s", f.Port, f.Protocol)
	}
	return fmt.Sprintf("%v/%s", netip.AddrPortFrom(f.Address, f.Port), f.Protocol)
}
