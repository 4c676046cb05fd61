package server

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// netNamespaces answers NetNamespaceService.
type netNamespaces struct {
	tenancyv1.UnsafeNetNamespaceServiceServer

	bucket *bucket.Bucket
	store  *netnamespace.Store
	span   vnid.Range
	fail   failures
	log    hclog.Logger
}

func (s *netNamespaces) CreateNetNamespace(ctx context.Context, r *tenancyv1.CreateNetNamespaceRequest) (*tenancyv1.CreateNetNamespaceResponse, error) {
	wish, err := parseWish(r, s.span)
	if err != nil {
		return nil, err
	}
	ns, err := s.store.Create(ctx, wish)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("namespace created", "namespace", ns.GetName(), "vnid", ns.GetNetid(), "revision", ns.GetRevision())
	return &tenancyv1.CreateNetNamespaceResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) DeleteNetNamespace(ctx context.Context, r *tenancyv1.DeleteNetNamespaceRequest) (*tenancyv1.DeleteNetNamespaceResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	if err := s.store.Delete(ctx, r.GetName()); err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("namespace deleted", "namespace", r.GetName())
	return &tenancyv1.DeleteNetNamespaceResponse{}, nil
}

func (s *netNamespaces) GetNetNamespace(ctx context.Context, r *tenancyv1.GetNetNamespaceRequest) (*tenancyv1.GetNetNamespaceResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	if err := catchup.IfPossible(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	ns, err := s.store.Get(r.GetName())
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &tenancyv1.GetNetNamespaceResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) ListNetNamespaces(ctx context.Context, r *tenancyv1.ListNetNamespacesRequest) (*tenancyv1.ListNetNamespacesResponse, error) {
	p, err := parseNamespacePage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	list := func() (netnamespace.Listing, error) { return s.store.List(p.after, p.size) }
	if len(r.GetNames()) > 0 {
		list = func() (netnamespace.Listing, error) { return s.store.ListNamed(r.GetNames(), p.after, p.size) }
	}
	listing, err := list()
	if err != nil {
		return nil, s.fail.status(err)
	}
	answer := &tenancyv1.ListNetNamespacesResponse{NetNamespaces: listing.Namespaces, Sequence: listing.Sequence}
	if listing.More {
		answer.NextPageToken = token(listing.Namespaces[len(listing.Namespaces)-1].GetName())
	}
	return answer, nil
}

func (s *netNamespaces) UpdateNetNamespaceLabels(ctx context.Context, r *tenancyv1.UpdateNetNamespaceLabelsRequest) (*tenancyv1.UpdateNetNamespaceLabelsResponse, error) {
	change, err := parseNamespaceLabels(r)
	if err != nil {
		return nil, err
	}
	ns, err := s.store.UpdateLabels(ctx, r.GetName(), change)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("namespace labelled", "namespace", ns.GetName(), "revision", ns.GetRevision())
	return &tenancyv1.UpdateNetNamespaceLabelsResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) JoinNetNamespace(ctx context.Context, r *tenancyv1.JoinNetNamespaceRequest) (*tenancyv1.JoinNetNamespaceResponse, error) {
	if err := parseJoin(r); err != nil {
		return nil, err
	}
	ns, err := s.store.Join(ctx, r.GetName(), r.GetTarget())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.moved("namespace joined another", ns)
	return &tenancyv1.JoinNetNamespaceResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) IsolateNetNamespace(ctx context.Context, r *tenancyv1.IsolateNetNamespaceRequest) (*tenancyv1.IsolateNetNamespaceResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	ns, err := s.store.Isolate(ctx, r.GetName())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.moved("namespace isolated", ns)
	return &tenancyv1.IsolateNetNamespaceResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) MakeNetNamespaceGlobal(ctx context.Context, r *tenancyv1.MakeNetNamespaceGlobalRequest) (*tenancyv1.MakeNetNamespaceGlobalResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	ns, err := s.store.MakeGlobal(ctx, r.GetName())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.moved("namespace made global", ns)
	return &tenancyv1.MakeNetNamespaceGlobalResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) SetNetNamespaceMulticast(ctx context.Context, r *tenancyv1.SetNetNamespaceMulticastRequest) (*tenancyv1.SetNetNamespaceMulticastResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	ns, err := s.store.SetMulticast(ctx, r.GetName(), r.GetEnabled())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Info("multicast set", "namespace", ns.GetName(), "enabled", ns.GetMulticastEnabled(), "revision", ns.GetRevision())
	return &tenancyv1.SetNetNamespaceMulticastResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) SetNetNamespacePolicyLog(ctx context.Context, r *tenancyv1.SetNetNamespacePolicyLogRequest) (*tenancyv1.SetNetNamespacePolicyLogResponse, error) {
	if err := parseName(r.GetName()); err != nil {
		return nil, err
	}
	ns, err := s.store.SetPolicyLog(ctx, r.GetName(), r.GetDenied(), r.GetAllowed())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Info("policy log set", "namespace", ns.GetName(), "denied", ns.GetPolicyLogDenied(), "allowed", ns.GetPolicyLogAllowed(), "revision", ns.GetRevision())
	return &tenancyv1.SetNetNamespacePolicyLogResponse{NetNamespace: ns}, nil
}

func (s *netNamespaces) SetNetNamespaceEgressRouters(ctx context.Context, r *tenancyv1.SetNetNamespaceEgressRoutersRequest) (*tenancyv1.SetNetNamespaceEgressRoutersResponse, error) {
	sources, err := parseEgressRouters(r)
	if err != nil {
		return nil, err
	}
	ns, err := s.store.SetEgressRouters(ctx, r.GetName(), sources)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Info("egress routers set", "namespace", ns.GetName(), "sources", ns.GetEgressRouterSources(), "revision", ns.GetRevision())
	return &tenancyv1.SetNetNamespaceEgressRoutersResponse{NetNamespace: ns}, nil
}

// moved logs what changes who may talk to whom.
func (s *netNamespaces) moved(how string, ns *tenancyv1.NetNamespace) {
	s.log.Info(how, "namespace", ns.GetName(), "vnid", ns.GetNetid(), "revision", ns.GetRevision())
}
