package netnamespace

import (
	"context"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Renew is for a namespace of whose name there is another one now: it has another VNID, which
// nobody has, the given labels, and nothing else that was said of the one before. Who had
// joined that one keeps its VNID. Pods that are registered move with the name. It fails with
// DefaultError, NotFoundError and ExhaustedError.
func (s *Store) Renew(ctx context.Context, name string, labels map[string]string) (*tenancyv1.NetNamespace, error) {
	if name == Default {
		return nil, &DefaultError{Verb: "renewed"}
	}
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		before, err := l.require(name)
		if err != nil {
			return nil, err
		}
		number, err := l.unused()
		if err != nil {
			return nil, err
		}
		return l.move(&tenancyv1.NetNamespace{Name: name, Netname: name, Netid: before.GetNetid(), Labels: labels}, number)
	})
}
