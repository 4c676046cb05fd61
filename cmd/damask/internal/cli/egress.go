package cli

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// errNoEgress is the answer to whoever asks for egress IPs in a cluster without the
// service.
var errNoEgress = errors.New("this cluster has no egress service: its file names no addresses in the field egress")

// noEgress is a connection to a service that there is not.
type noEgress struct{}

func (noEgress) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errNoEgress
}

func (noEgress) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errNoEgress
}

func (s *session) dialEgress() (grpc.ClientConnInterface, error) {
	if len(s.cluster.Egress) == 0 {
		return noEgress{}, nil
	}
	return s.dial(s.cluster.Egress, accessv1.Role_ROLE_EGRESS)
}

func (s *session) assignments(ctx context.Context, namespace string) ([]*egressv1.EgressAssignment, error) {
	return everyPage(func(token string) ([]*egressv1.EgressAssignment, string, error) {
		page, err := s.egress.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{Namespaces: oneOrAll(namespace), PageToken: token})
		return page.GetEgressAssignments(), page.GetNextPageToken(), err
	})
}

func (s *session) hostings(ctx context.Context, node string) ([]*egressv1.EgressHosting, error) {
	return everyPage(func(token string) ([]*egressv1.EgressHosting, string, error) {
		page, err := s.egress.ListEgressHostings(ctx, &egressv1.ListEgressHostingsRequest{Nodes: oneOrAll(node), PageToken: token})
		return page.GetEgressHostings(), page.GetNextPageToken(), err
	})
}

func (s *session) egressPods(ctx context.Context, namespace string) ([]*egressv1.EgressPods, error) {
	return everyPage(func(token string) ([]*egressv1.EgressPods, string, error) {
		page, err := s.egress.ListEgressPods(ctx, &egressv1.ListEgressPodsRequest{Namespaces: oneOrAll(namespace), PageToken: token})
		return page.GetEgressPods(), page.GetNextPageToken(), err
	})
}

func (s *session) namespaceEgress(ctx context.Context, namespace string) ([]*egressv1.NetNamespaceEgress, error) {
	return everyPage(func(token string) ([]*egressv1.NetNamespaceEgress, string, error) {
		page, err := s.egress.ListNetNamespaceEgress(ctx, &egressv1.ListNetNamespaceEgressRequest{Namespaces: oneOrAll(namespace), PageToken: token})
		return page.GetNetNamespaceEgress(), page.GetNextPageToken(), err
	})
}

func (s *session) nodeEgress(ctx context.Context, node string) ([]*egressv1.HostSubnetEgress, error) {
	return everyPage(func(token string) ([]*egressv1.HostSubnetEgress, string, error) {
		page, err := s.egress.ListHostSubnetEgress(ctx, &egressv1.ListHostSubnetEgressRequest{Nodes: oneOrAll(node), PageToken: token})
		return page.GetHostSubnetEgress(), page.GetNextPageToken(), err
	})
}

func (s *session) egressNodes(ctx context.Context) ([]*egressv1.EgressNode, error) {
	return everyPage(func(token string) ([]*egressv1.EgressNode, string, error) {
		page, err := s.leaving.ListEgressNodes(ctx, &egressv1.ListEgressNodesRequest{PageToken: token})
		return page.GetEgressNodes(), page.GetNextPageToken(), err
	})
}

// fillNetNamespaces adds what namespaces want, which OpenShift keeps in the same
// object.
func fillNetNamespaces(ctx context.Context, s *session, items []*tenancyv1.NetNamespace) error {
	if len(s.cluster.Egress) == 0 {
		return nil
	}
	wishes, err := s.namespaceEgress(ctx, "")
	wanted := map[string][]string{}
	for _, w := range wishes {
		wanted[w.GetNamespace()] = w.GetEgressIps()
		for _, p := range w.GetPods() {
			wanted[w.GetNamespace()] = append(wanted[w.GetNamespace()], p.GetEgressIps()...)
		}
	}
	for _, item := range items {
		item.EgressIps = wanted[item.GetName()]
	}
	return err
}

// fillHostSubnets adds the ranges from which addresses are placed on nodes, and what
// nodes host, which OpenShift keeps in the same object.
func fillHostSubnets(ctx context.Context, s *session, items []*ipamv1.HostSubnet) error {
	if len(s.cluster.Egress) == 0 {
		return nil
	}
	offers, err := s.nodeEgress(ctx, "")
	if err != nil {
		return err
	}
	ranges := map[string][]string{}
	for _, o := range offers {
		ranges[o.GetNode()] = o.GetEgressCidrs()
	}
	hostings, err := s.hostings(ctx, "")
	hosted := map[string][]string{}
	for _, h := range hostings {
		for _, a := range h.GetAddresses() {
			hosted[h.GetNode()] = append(hosted[h.GetNode()], a.GetIp())
		}
	}
	for _, item := range items {
		item.EgressCidrs, item.EgressIps = ranges[item.GetName()], hosted[item.GetName()]
	}
	return err
}
