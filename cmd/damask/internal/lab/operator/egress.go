package operator

import (
	"context"
	"fmt"
	"time"

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

// AwaitEgressIPs returns when so many egress IPs are decided upon, and none of them
// waits for something that comes by itself: a node that is just joining, an address
// that moves.
func (o *Operator) AwaitEgressIPs(ctx context.Context, count int) error {
	for begin := time.Now(); ; {
		settled, missing, err := o.settledEgressIPs(ctx)
		if err != nil {
			return err
		}
		if settled == count {
			return nil
		}
		if err := pause(ctx, begin); err != nil {
			return fmt.Errorf("%d of %d egress IPs are settled (%s): %w", settled, count, missing, err)
		}
	}
}

// settledEgressIPs counts them, and says what one of the others waits for.
func (o *Operator) settledEgressIPs(ctx context.Context) (settled int, missing string, err error) {
	client := egressv1.NewEgressIPServiceClient(o.egress)
	for token := ""; ; {
		page, err := client.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{PageToken: token})
		if err != nil {
			return 0, "", worded(err)
		}
		for _, a := range page.GetEgressAssignments() {
			for _, address := range a.GetAddresses() {
				if passing(address) {
					missing = address.GetIp() + ": " + address.GetDetail()
					continue
				}
				settled++
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return settled, missing, nil
		}
	}
}

// passing tells whether an address waits for what comes by itself.
func passing(a *egressv1.AssignedAddress) bool {
	switch a.GetReason() {
	case egressv1.AddressReason_ADDRESS_REASON_NETWORK_UNKNOWN, egressv1.AddressReason_ADDRESS_REASON_NODE_DOWN, egressv1.AddressReason_ADDRESS_REASON_NO_NETID:
		return true
	}
	return a.GetState() == egressv1.AddressState_ADDRESS_STATE_MOVING
}
