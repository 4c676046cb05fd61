package attach

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/annotation"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// Add implements cniv1.CNIServiceService.
func (s *Server) Add(ctx context.Context, r *cniv1.AddRequest) (*cniv1.AddResponse, error) {
	wish, err := wishOf(r)
	if err != nil {
		return nil, err
	}
	if err := checkNetns(r.GetNetns()); err != nil {
		return nil, refusal("add", err)
	}
	network, err := s.network()
	if err != nil {
		return nil, refusal("add", err)
	}
	unlock, err := s.locks.lock(ctx, r.GetContainerId())
	if err != nil {
		return nil, refusal("wait for another command on this container", err)
	}
	defer unlock()
	key := lease.Key{ContainerID: r.GetContainerId(), Ifname: r.GetIfname()}
	if l, ok := s.Leases.Lookup(key); ok {
		if l.Attached {
			return s.addAgain(ctx, r, l.Attachment, network)
		}
		// What an earlier command left behind when its undoing failed too.
		if err := s.detach(ctx, l.Attachment); err != nil {
			return nil, refusal("remove what is left of an earlier attachment", err)
		}
	}
	if err := s.permitRouter(ctx, r, network); err != nil {
		return nil, refusal("attach an egress router", err)
	}
	return s.addNew(ctx, r, wish, network)
}

// addNew attaches a sandbox that has nothing yet.
func (s *Server) addNew(ctx context.Context, r *cniv1.AddRequest, wish lease.Wish, network Network) (*cniv1.AddResponse, error) {
	start := time.Now()
	a, err := s.Leases.Allocate(network.Subnet, &cniv1.Attachment{
		ContainerId: r.GetContainerId(), Ifname: r.GetIfname(), Netns: r.GetNetns(),
		PodNamespace: r.GetPodNamespace(), PodName: r.GetPodName(), PodUid: r.GetPodUid(),
		Labels: r.GetLabels(), Ports: r.GetPorts(), HostPorts: r.GetHostPorts(), Annotations: annotation.Of(r.GetAnnotations()),
		Bandwidth: r.GetBandwidth(),
	}, wish)
	if err != nil {
		return nil, refusal("allocate an address", err)
	}
	a, made, err := s.build(ctx, a, network, wish.OFPort != 0)
	if err == nil {
		err = s.Leases.Attached(lease.KeyOf(a))
	}
	if err != nil {
		if undo := s.detach(ctx, a); undo != nil {
			s.log.Warn("failed attachment not undone, the next command on it or a restart will",
				"container_id", a.GetContainerId(), "ifname", a.GetIfname(), "error", undo)
		}
		return nil, refusal("attach pod "+a.GetPodNamespace()+"/"+a.GetPodName(), err)
	}
	s.Registry.PodUp(a)
	s.log.Debug("pod attached", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(),
		"ip", a.GetIps()[0], "ofport", a.GetOfport(), "duration", time.Since(start))
	return answer(a, made, network), nil
}

// build makes everything that a lease promises. The flows come last, so the pod
// is closed until then: without flows the switch drops all that it sends, and all
// that is sent to it. The VNID can take a question to tenancy: meanwhile cable
// and port are made, and the node's ports lead to the pod.
func (s *Server) build(ctx context.Context, a *cniv1.Attachment, network Network, fixedPort bool) (*cniv1.Attachment, link.PodLink, error) {
	var made link.PodLink
	built := a
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := s.Names.VNID(inner, a.GetPodNamespace())
		return err
	})
	group.Go(func() (err error) {
		made, err = s.Links.EnsurePodWhile(inner, podLink(a, network), func() (err error) {
			built, err = s.plug(inner, a, fixedPort)
			return err
		})
		return err
	})
	if len(a.GetHostPorts()) > 0 {
		group.Go(func() error { return s.HostPorts.Open(inner, a) })
	}
	if err := group.Wait(); err != nil {
		return built, made, err
	}
	if err := s.ensureRouter(ctx, built, network, s.Names.EgressRouterSources(a.GetPodNamespace())); err != nil {
		return built, made, err
	}
	return built, made, s.Programmer.Program(ctx, built)
}

// plug puts the pod's veth into the bridge. The number was chosen by the lease
// store; a port that is not ours can have it already, and then, unless the number
// was wished for, the switch's side chooses another.
func (s *Server) plug(ctx context.Context, a *cniv1.Attachment, fixedPort bool) (*cniv1.Attachment, error) {
	port := portOf(a)
	got, err := s.Ports.AddPort(ctx, port)
	if errors.Is(err, bridge.ErrOFPortTaken) && !fixedPort {
		port.OFPort = 0
		got, err = s.Ports.AddPort(ctx, port)
	}
	if err != nil {
		return a, err
	}
	if got == a.GetOfport() {
		return a, nil
	}
	amended, err := s.Leases.Amend(lease.KeyOf(a), lease.Change{OFPort: got})
	if err != nil {
		return a, err
	}
	return amended, nil
}

// addAgain repairs an attachment and answers what the first ADD answered.
func (s *Server) addAgain(ctx context.Context, r *cniv1.AddRequest, a *cniv1.Attachment, network Network) (*cniv1.AddResponse, error) {
	labels, ports, hostPorts := r.GetLabels(), r.GetPorts(), r.GetHostPorts()
	if labels == nil {
		labels = map[string]string{}
	}
	if ports == nil {
		ports = []*cniv1.ContainerPort{}
	}
	if hostPorts == nil {
		hostPorts = []*cniv1.HostPort{}
	}
	had := len(a.GetHostPorts()) > 0
	a, err := s.Leases.Amend(lease.KeyOf(a), lease.Change{Netns: r.GetNetns(), Labels: labels, Ports: ports, HostPorts: hostPorts})
	if err != nil {
		return nil, refusal("attach again", err)
	}
	if had || len(hostPorts) > 0 {
		if err := s.HostPorts.Open(ctx, a); err != nil {
			return nil, refusal("open host ports again", err)
		}
	}
	a, made, err := s.mend(ctx, a, network)
	if err != nil {
		return nil, refusal("repair the attachment of pod "+a.GetPodNamespace()+"/"+a.GetPodName(), err)
	}
	s.Registry.PodUp(a)
	return answer(a, made, network), nil
}

// mend makes right what differs of a complete attachment. A failure leaves it as
// it is: the pod may well be running.
func (s *Server) mend(ctx context.Context, a *cniv1.Attachment, network Network) (*cniv1.Attachment, link.PodLink, error) {
	made, err := s.Links.EnsurePod(ctx, podLink(a, network))
	if err != nil {
		return a, made, err
	}
	if made.Created {
		// The switch may still hold the old device of this name.
		if a, made, err = s.renew(ctx, a, network); err != nil {
			return a, made, err
		}
	}
	if _, err := s.Names.VNID(ctx, a.GetPodNamespace()); err != nil {
		return a, made, err
	}
	if a, err = s.plug(ctx, a, false); err != nil {
		return a, made, err
	}
	if a.GetBandwidth() != nil { // A port that was made anew has lost it.
		if _, err := s.Links.EnsureBandwidth(ctx, podLink(a, network)); err != nil {
			return a, made, err
		}
	}
	if err := s.ensureRouter(ctx, a, network, nil); err != nil {
		return a, made, err
	}
	return a, made, s.reprogram(ctx, a)
}

// reprogram sends the flows of a pod again when the switch does not have them all.
// The programmer sends only what it does not know to be there, so it must let
// go of them first.
func (s *Server) reprogram(ctx context.Context, a *cniv1.Attachment) error {
	differences, err := s.Programmer.Differences(ctx, a)
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		if err := s.Programmer.Unprogram(ctx, a); err != nil {
			return err
		}
	}
	return s.Programmer.Program(ctx, a)
}

// renew replaces a pod's cable by one of another name.
func (s *Server) renew(ctx context.Context, a *cniv1.Attachment, network Network) (*cniv1.Attachment, link.PodLink, error) {
	if err := s.unplug(ctx, a.GetHostVeth()); err != nil {
		return a, link.PodLink{}, err
	}
	renewed, err := s.Leases.Amend(lease.KeyOf(a), lease.Change{NewVeth: true})
	if err != nil {
		return a, link.PodLink{}, err
	}
	made, err := s.Links.EnsurePod(ctx, podLink(renewed, network))
	return renewed, made, err
}

// network answers what a pod needs to know, or why that is not known.
func (s *Server) network() (Network, error) {
	network, missing := s.Site.Network()
	if len(missing) > 0 {
		return Network{}, notReady(ReasonTryAgainLater, missing)
	}
	return network, nil
}

// podLink is a pod's cable, as package link wants it.
func podLink(a *cniv1.Attachment, network Network) link.Pod {
	return link.Pod{
		Netns: a.GetNetns(), Interface: a.GetIfname(), HostVeth: a.GetHostVeth(),
		Address: prefixOf(a), Gateway: gatewayOf(a),
		ClusterNetworks: network.ClusterNetworks, Behind: behindGateway(a, network), MTU: network.MTU,
		Bandwidth: bandwidthOf(a.GetBandwidth()),
	}
}

// answer is what the plugin's result is made of. The route to the pod's subnet
// is not in it: the kernel makes it from the address.
func answer(a *cniv1.Attachment, made link.PodLink, network Network) *cniv1.AddResponse {
	gateway := gatewayOf(a).String()
	routes := []*cniv1.Route{{Destination: "0.0.0.0/0", Gateway: gateway}}
	if behind := behindGateway(a, network); behind != nil {
		routes = nil
		for _, n := range behind {
			routes = append(routes, &cniv1.Route{Destination: n.String(), Gateway: gateway})
		}
	}
	for _, n := range network.ClusterNetworks {
		routes = append(routes, &cniv1.Route{Destination: n.String()})
	}
	routes = append(routes, &cniv1.Route{Destination: "224.0.0.0/4"})
	return &cniv1.AddResponse{
		Attachment: a, Gateways: []string{gateway}, Routes: routes,
		Mtu: uint32(network.MTU), HostMac: made.HostMAC.String(),
	}
}
