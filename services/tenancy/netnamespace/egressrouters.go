package netnamespace

import (
	"context"
	"slices"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// SetEgressRouters says which networks of the underlay a namespace's egress routers may
// have addresses of, sorted and each once. It fails with NotFoundError.
func (s *Store) SetEgressRouters(ctx context.Context, name string, sources []string) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.require(name)
		if err != nil || slices.Equal(ns.GetEgressRouterSources(), sources) {
			return ns, err
		}
		ns.EgressRouterSources = sources
		return ns, l.write(ns)
	})
}
