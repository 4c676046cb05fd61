package supervisor

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

// routesEvery is how often the hosts outside learn of new HostSubnets. Nodes come
// and go by hand in a lab, so a second or two is soon.
const routesEvery = 2 * time.Second

// routes are what the hosts outside have, so that nothing is written when nothing
// changed.
type routes struct {
	mu  sync.Mutex
	set []underlay.Route
	// subnets are the nodes' HostSubnets as ipam answered last.
	subnets map[string]string
}

// known are the HostSubnets by node. They are shared: do not change them.
func (r *routes) known() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subnets
}

// keepRoutes keeps the routes of the hosts outside as the HostSubnets are, until
// the context ends.
func (s *Supervisor) keepRoutes(ctx context.Context) error {
	tick := time.NewTicker(routesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if err := s.refreshRoutes(ctx); err != nil {
			// ipam may well have been killed: that is what a lab is for.
			s.log.Debug("cannot refresh routes", "error", err)
		}
	}
}

// refreshRoutes gives the hosts outside a route to each node's HostSubnet.
func (s *Supervisor) refreshRoutes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	subnets, err := s.plane.Operator.HostSubnets(ctx)
	if err != nil {
		return err
	}
	var wanted []underlay.Route
	byNode := map[string]string{}
	for name, subnet := range subnets {
		for _, text := range subnet.GetSubnets() {
			to, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			via, err := netip.ParseAddr(subnet.GetHostIps()[0])
			if err != nil {
				return err
			}
			wanted = append(wanted, underlay.Route{To: to, Via: via})
			byNode[name] = text
		}
	}
	// A load balancer would send to nodes that are well; here it is the first node.
	wanted = append(wanted, underlay.Route{To: s.topology.LoadBalancerIPs, Via: s.topology.Nodes[0].IP})
	slices.SortFunc(wanted, func(a, b underlay.Route) int { return a.To.Addr().Compare(b.To.Addr()) })
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	s.routes.subnets = byNode
	if slices.Equal(wanted, s.routes.set) {
		return nil
	}
	for _, h := range s.outside {
		if err := underlay.SetRoutes(enter.NetPath(h.netns()), wanted); err != nil {
			return err
		}
	}
	s.routes.set = wanted
	return nil
}
