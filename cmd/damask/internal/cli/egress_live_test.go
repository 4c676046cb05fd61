package cli

import (
	"context"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// reportNetwork says which network a node is in, as its agent would.
func (l *live) reportNetwork(node, network string) {
	l.t.Helper()
	conn := l.dial(identity.Node(node), l.cluster.Egress, accessv1.Role_ROLE_EGRESS)
	_, err := egressv1.NewEgressNodeServiceClient(conn).ReportNetworks(soon(l.t), &egressv1.ReportNetworksRequest{Node: node, Networks: []string{network}})
	if err != nil {
		l.t.Fatal(err)
	}
}

// obey makes a node do what egress tells it, as its agent would, until the test ends.
func (l *live) obey(node string) {
	l.t.Helper()
	conn := l.dial(identity.Node(node), l.cluster.Egress, accessv1.Role_ROLE_EGRESS)
	told := egressv1.NewEgressIPServiceClient(conn)
	l.run(func(ctx context.Context) error {
		stream, err := egressv1.NewEgressNodeServiceClient(conn).ReportReachability(ctx)
		for err == nil {
			var page *egressv1.ListEgressHostingsResponse
			page, err = told.ListEgressHostings(ctx, &egressv1.ListEgressHostingsRequest{Nodes: []string{node}})
			for _, h := range page.GetEgressHostings() {
				err = stream.Send(&egressv1.ReportReachabilityRequest{HostingRevision: h.GetRevision()})
			}
			select {
			case <-ctx.Done():
			case <-time.After(lookAgain):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
}

func TestAClusterWithoutEgressSaysSo(t *testing.T) {
	l := newLive(t)
	nobody := []string{freeAddress()}
	l.cluster.IPAM, l.cluster.Tenancy, l.cluster.ServiceLB = nobody, nobody, nobody
	_, err := runHere(labs{l.cluster}, "get", "egressips", "--lab", "blue")
	if err == nil || err.Error() != errNoEgress.Error() {
		t.Error(err)
	}
}
