package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// routerOf is what makes an attachment an egress router; false when it is none.
// Annotations were checked when they came.
func routerOf(a *cniv1.Attachment) (egressrouter.Spec, bool) {
	spec, wanted, err := egressrouter.Parse(a.GetAnnotations())
	return spec, wanted && err == nil
}

// permitRouter refuses an egress router whose namespace may not have it, and one whose
// address a pod of this node has already.
func (s *Server) permitRouter(ctx context.Context, r *cniv1.AddRequest, network Network) error {
	spec, wanted := routerOf(&cniv1.Attachment{Annotations: r.GetAnnotations()})
	if !wanted {
		return nil
	}
	if _, err := s.Names.VNID(ctx, r.GetPodNamespace()); err != nil {
		return err
	}
	refuse := func(format string, args ...any) error {
		return rpcerr.New(codes.InvalidArgument, Domain, ReasonInvalidConfig, fmt.Sprintf(format, args...), nil)
	}
	allowed := s.Names.EgressRouterSources(r.GetPodNamespace())
	if len(allowed) == 0 {
		return refuse("namespace %s may have no egress routers; an administrator can allow it: damask egress-router allow %s NETWORK",
			r.GetPodNamespace(), r.GetPodNamespace())
	}
	if !spec.Configured() {
		return nil
	}
	source := spec.Source.Addr()
	has := func(n netip.Prefix) bool { return n.Contains(source) }
	switch {
	case !slices.ContainsFunc(allowed, has):
		return refuse("namespace %s may have egress routers with addresses of %v, %s is none of them", r.GetPodNamespace(), allowed, source)
	case slices.ContainsFunc(slices.Concat(network.ClusterNetworks, network.ServiceNetworks), has):
		return refuse("%s is an address of the pod network, not of the underlay", source)
	}
	for _, l := range s.Leases.List() {
		other, is := routerOf(l.Attachment)
		if is && other.Source.Addr() == source && lease.KeyOf(l.Attachment).ContainerID != r.GetContainerId() {
			return rpcerr.New(codes.AlreadyExists, Domain, ReasonAddressTaken, fmt.Sprintf("%s is the address of egress router %s/%s",
				source, l.Attachment.GetPodNamespace(), l.Attachment.GetPodName()), nil)
		}
	}
	return nil
}

// ensureRouter makes an egress router of a pod that shall be one, or repairs it. Rules
// come after routes: nothing is led outside before it has a way there. Allowed are the
// networks of which the namespace may have addresses; nil: it was asked before.
func (s *Server) ensureRouter(ctx context.Context, a *cniv1.Attachment, network Network, allowed []netip.Prefix) error {
	spec, is := routerOf(a)
	if !is {
		return nil
	}
	cable := routerLink(a.GetNetns(), spec, network)
	cable.Networks = allowed
	repaired, err := s.Links.EnsureRouter(ctx, cable)
	if err == nil && spec.Configured() {
		var rules []string
		rules, err = egressrouter.Ensure(ctx, a.GetNetns(), a.GetIfname(), spec)
		repaired = append(repaired, rules...)
	}
	if err != nil {
		return err
	}
	s.log.Debug("egress router made", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "source", spec.Source, "differed", repaired)
	return nil
}

// checkRouter compares an egress router with what it should be.
func (s *Server) checkRouter(ctx context.Context, netns string, a *cniv1.Attachment, network Network) ([]string, error) {
	spec, is := routerOf(a)
	if !is {
		return nil, nil
	}
	differs, err := s.Links.CheckRouter(ctx, routerLink(netns, spec, network))
	if err != nil || !spec.Configured() {
		return differs, err
	}
	rules, err := egressrouter.Check(ctx, netns, a.GetIfname(), spec)
	return append(differs, rules...), err
}

// removeRouter takes from a pod what made it an egress router, so that its address is
// free for the next.
func (s *Server) removeRouter(ctx context.Context, a *cniv1.Attachment) error {
	if _, is := routerOf(a); !is {
		return nil
	}
	return errors.Join(s.Links.DeleteRouter(ctx, a.GetNetns(), egressrouter.Interface), egressrouter.Remove(ctx, a.GetNetns()))
}

func routerLink(netns string, spec egressrouter.Spec, network Network) link.Router {
	parent := spec.Parent
	if parent == "" {
		parent = network.Underlay
	}
	return link.Router{Netns: netns, Interface: egressrouter.Interface, Parent: parent, Address: spec.Source, Gateway: spec.Gateway, LowPorts: spec.LowPorts}
}

// behindGateway are the networks behind the gateway of a pod that leaves by another
// interface; nil for other pods.
func behindGateway(a *cniv1.Attachment, network Network) []netip.Prefix {
	if spec, is := routerOf(a); !is || !spec.Configured() {
		return nil
	}
	return append([]netip.Prefix{}, network.ServiceNetworks...)
}
