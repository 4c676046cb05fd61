package operator

import (
	"context"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// SetNetNamespaceEgress stores by which addresses a namespace leaves the cluster.
func (o *Operator) SetNetNamespaceEgress(ctx context.Context, wish *egressv1.NetNamespaceEgress) error {
	_, err := egressv1.NewEgressIPServiceClient(o.egress).SetNetNamespaceEgress(ctx, &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: wish})
	return worded(err)
}

// SetHostSubnetEgress stores which egress IPs a node may host.
func (o *Operator) SetHostSubnetEgress(ctx context.Context, offer *egressv1.HostSubnetEgress) error {
	_, err := egressv1.NewEgressIPServiceClient(o.egress).SetHostSubnetEgress(ctx, &egressv1.SetHostSubnetEgressRequest{HostSubnetEgress: offer})
	return worded(err)
}
