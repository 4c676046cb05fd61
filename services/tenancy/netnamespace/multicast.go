package netnamespace

import (
	"context"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
)

// SetMulticast says whether a namespace's pods may send and receive multicast. It
// fails with NotFoundError, and with ModeError when multicast is to be enabled while
// packets carry no VNIDs: nothing would keep it from other tenants. Disabling it is
// always possible.
func (s *Store) SetMulticast(ctx context.Context, name string, enabled bool) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		if enabled {
			mode, err := isolation.Read(l.tx)
			if err != nil {
				return nil, err
			}
			if mode.GetMode() == tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET {
				return nil, &ModeError{Mode: mode.GetMode(), Multicast: true}
			}
		}
		ns, err := l.require(name)
		if err != nil || ns.GetMulticastEnabled() == enabled {
			return ns, err
		}
		ns.MulticastEnabled = enabled
		return ns, l.write(ns)
	})
}
