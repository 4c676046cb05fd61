package bridge

import (
	"context"
	"fmt"
	"net"
	"time"
)

// keptMAC is the key of tun0's external_ids that holds the MAC which tun0 had before
// the bridge was ours.
const keptMAC = "kept-mac"

// takenOver is the key beside it that says since when it is, in RFC 3339.
const takenOver = "taken-over"

// GatewayMAC answers the MAC that tun0 is to have: own, unless pods know it by another.
// They do where OpenShift SDN made tun0, which left the choice to the switch: with
// another MAC pods would send to nobody until they ask for it again. So that one is
// kept, and EnsureBridge writes it down, for as long as the port lives. since is when that
// was, now if it is still to be, and zero if nobody has noted it.
func (b *Bridge) GatewayMAC(ctx context.Context, own net.HardwareAddr) (mac net.HardwareAddr, kept bool, since time.Time, err error) {
	err = b.retried(ctx, func(s *session) error {
		if err := s.refresh(ctx); err != nil {
			return err
		}
		mac, kept, since = own, false, time.Time{}
		row := s.iface(GatewayPort)
		if row == nil {
			return nil
		}
		text, noted := row.ExternalIDs[keptMAC]
		if !noted && deref(row.MAC) == "" {
			text = deref(row.MACInUse)
		}
		// What is no MAC of one device was not kept by us, and nobody has learnt it.
		if had, err := net.ParseMAC(text); err == nil && len(had) == len(own) && had[0]&1 == 0 && had.String() != own.String() {
			mac, kept = had, true
			if since = time.Now(); noted {
				since, _ = time.Parse(time.RFC3339, row.ExternalIDs[takenOver])
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, time.Time{}, fmt.Errorf("look for the MAC of %s: %w", GatewayPort, err)
	}
	return mac, kept, since, nil
}
