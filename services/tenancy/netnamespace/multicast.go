package netnamespace

import (
	"context"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// SetMulticast says whether a namespace's pods may send and receive multicast. It
// fails with NotFoundError, and with ModeError when multicast is to be enabled while
// VNIDs do not isolate: nothing would keep it from other tenants. Disabling it is
// always possible.
func (s *Store) SetMulticast(ctx context.Context, name string, enabled bool) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		if enabled {
			if err := l.requireVNIDs(); err != nil {
				return nil, err
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
