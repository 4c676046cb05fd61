package attach

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// Check implements cniv1.CNIServiceService.
func (s *Server) Check(ctx context.Context, r *cniv1.CheckRequest) (*cniv1.CheckResponse, error) {
	var f faults
	f.key(r.GetContainerId(), r.GetIfname())
	f.netns(r.GetNetns())
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := checkNetns(r.GetNetns()); err != nil {
		return nil, refusal("check", err)
	}
	network, err := s.network()
	if err != nil {
		return nil, refusal("check", err)
	}
	unlock, err := s.locks.lock(ctx, r.GetContainerId())
	if err != nil {
		return nil, refusal("wait for another command on this container", err)
	}
	defer unlock()
	key := lease.Key{ContainerID: r.GetContainerId(), Ifname: r.GetIfname()}
	l, ok := s.Leases.Lookup(key)
	if !ok || !l.Attached {
		return nil, rpcerr.New(codes.NotFound, Domain, ReasonUnknownContainer,
			fmt.Sprintf("interface %s of container %s is not attached on this node", key.Ifname, key.ContainerID), nil)
	}
	differences, err := s.differences(ctx, r, l.Attachment, network)
	if err != nil {
		return nil, refusal("check", err)
	}
	if len(differences) > 0 {
		return nil, rpcerr.New(codes.FailedPrecondition, Domain, ReasonStateDiffers, strings.Join(differences, "; "), nil)
	}
	return &cniv1.CheckResponse{}, nil
}

// differences compares an attachment with everything that makes it.
func (s *Server) differences(ctx context.Context, r *cniv1.CheckRequest, a *cniv1.Attachment, network Network) ([]string, error) {
	var all []string
	if !slices.Equal(r.GetExpectedIps(), a.GetIps()) {
		all = append(all, fmt.Sprintf("address: prevResult has [%s], the pod has [%s]",
			strings.Join(r.GetExpectedIps(), " "), strings.Join(a.GetIps(), " ")))
	}
	cable := podLink(a, network)
	cable.Netns = r.GetNetns() // the same namespace can have several paths
	links, err := s.Links.CheckPod(ctx, cable)
	if err != nil {
		return nil, err
	}
	all = append(all, links...)
	router, err := s.checkRouter(ctx, r.GetNetns(), a, network)
	if err != nil {
		return nil, err
	}
	all = append(all, router...)
	ports, err := s.Ports.Ports(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, comparePort(ports, a)...)
	if len(a.GetHostPorts()) > 0 {
		rules, err := s.HostPorts.Differences(ctx, a)
		if err != nil {
			return nil, err
		}
		all = append(all, rules...)
	}
	flows, err := s.Programmer.Differences(ctx, a)
	if err != nil {
		return nil, err
	}
	return append(all, flows...), nil
}

// comparePort compares the pod's port in the switch with the lease.
func comparePort(ports []bridge.Port, a *cniv1.Attachment) []string {
	i := slices.IndexFunc(ports, func(p bridge.Port) bool { return p.Name == a.GetHostVeth() })
	if i < 0 {
		return []string{fmt.Sprintf("port %s is missing in the switch", a.GetHostVeth())}
	}
	var all []string
	has := ports[i]
	if has.Error != "" {
		all = append(all, fmt.Sprintf("port %s: the switch says: %s", has.Name, has.Error))
	}
	if has.OFPort != a.GetOfport() {
		all = append(all, fmt.Sprintf("port %s: its OpenFlow number is %d, should be %d", has.Name, has.OFPort, a.GetOfport()))
	}
	want := externalIDs(a)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if has.ExternalIDs[key] != want[key] {
			all = append(all, fmt.Sprintf("port %s: external_ids:%s is %q, should be %q", has.Name, key, has.ExternalIDs[key], want[key]))
		}
	}
	return all
}

// Status implements cniv1.CNIServiceService.
func (s *Server) Status(context.Context, *cniv1.StatusRequest) (*cniv1.StatusResponse, error) {
	if _, missing := s.Site.Network(); len(missing) > 0 {
		return nil, notReady(ReasonNodeNotReady, missing)
	}
	return &cniv1.StatusResponse{}, nil
}

func notReady(reason string, missing []string) error {
	return rpcerr.New(codes.Unavailable, Domain, reason, "the node is not ready: "+strings.Join(missing, "; "), nil)
}
