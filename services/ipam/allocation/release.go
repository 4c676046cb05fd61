package allocation

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/token"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// Release removes a node and frees what it had; uid, if not empty, must be
// the identity that is stored (OtherIdentity). Releasing an unknown node does
// nothing.
func (s *Store) Release(ctx context.Context, node, uid string) error {
	_, err := s.update(ctx, func(tx *bucket.Tx) error {
		have, known, err := s.hostSubnets.Get(tx, node)
		if err != nil || !known {
			return err
		}
		if uid != "" && uid != have.GetNodeUid() {
			return &Refusal{
				Kind:     OtherIdentity,
				Message:  fmt.Sprintf("node %s is another machine now: its uid is %q, not %q", node, have.GetNodeUid(), uid),
				Metadata: map[string]string{"node": node, "node_uid": have.GetNodeUid()},
			}
		}
		// No fence: a plan that still counts a node that goes errs on the safe
		// side, and who gives out the subnet writes its claim.
		l := &ledger{tx: tx}
		if err := l.release(have); err != nil {
			return err
		}
		s.hostSubnets.Delete(tx, node)
		return nil
	})
	return err
}

// release frees all that a node has.
func (l *ledger) release(have *ipamv1.HostSubnet) error {
	for _, text := range have.GetSubnets() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("stored host subnet %s is damaged: %w", have.GetName(), err)
		}
		l.free(p)
	}
	return l.freeHostIPs(have)
}

func (l *ledger) freeHostIPs(have *ipamv1.HostSubnet) error {
	for _, text := range have.GetHostIps() {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("stored host subnet %s is damaged: %w", have.GetName(), err)
		}
		l.freeHostIP(ip)
	}
	return nil
}

// claimedSubnet reads the subnet from the key of its claim.
func claimedSubnet(key string) (netip.Prefix, error) {
	text, err := token.Decode(key[len(claimKind)+1:])
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("stored claim %s is damaged: %w", key, err)
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("stored claim %s is damaged: %w", key, err)
	}
	return p, nil
}
