package server

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// addresses answers EgressIPService.
type addresses struct {
	egressv1.UnsafeEgressIPServiceServer

	store *store.Store
	log   hclog.Logger
}

func (a *addresses) SetNetNamespaceEgress(ctx context.Context, r *egressv1.SetNetNamespaceEgressRequest) (*egressv1.SetNetNamespaceEgressResponse, error) {
	var v rpcerr.Violations
	if r.GetNetNamespaceEgress() == nil {
		v.Addf("net_namespace_egress", "is required")
	} else {
		spec.CheckNetNamespace(r.GetNetNamespaceEgress(), &v)
	}
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	stored, err := a.store.SetNetNamespace(ctx, r.GetNetNamespaceEgress())
	if err != nil {
		return nil, status(err)
	}
	a.log.Debug("namespace's wish stored", "namespace", stored.GetNamespace(), "addresses", len(store.Wanted(stored)), "revision", stored.GetRevision())
	return &egressv1.SetNetNamespaceEgressResponse{NetNamespaceEgress: stored}, nil
}

func (a *addresses) SetHostSubnetEgress(ctx context.Context, r *egressv1.SetHostSubnetEgressRequest) (*egressv1.SetHostSubnetEgressResponse, error) {
	var v rpcerr.Violations
	if r.GetHostSubnetEgress() == nil {
		v.Addf("host_subnet_egress", "is required")
	} else {
		spec.CheckHostSubnet(r.GetHostSubnetEgress(), &v)
	}
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	stored, err := a.store.SetHostSubnet(ctx, r.GetHostSubnetEgress())
	if err != nil {
		return nil, status(err)
	}
	a.log.Debug("node's offer stored", "node", stored.GetNode(), "revision", stored.GetRevision())
	return &egressv1.SetHostSubnetEgressResponse{HostSubnetEgress: stored}, nil
}

func (a *addresses) DrainEgress(ctx context.Context, r *egressv1.DrainEgressRequest) (*egressv1.DrainEgressResponse, error) {
	stored, err := a.drain(ctx, r.GetNode(), true)
	if err != nil {
		return nil, err
	}
	return &egressv1.DrainEgressResponse{HostSubnetEgress: stored}, nil
}

func (a *addresses) RestoreEgress(ctx context.Context, r *egressv1.RestoreEgressRequest) (*egressv1.RestoreEgressResponse, error) {
	stored, err := a.drain(ctx, r.GetNode(), false)
	if err != nil {
		return nil, err
	}
	return &egressv1.RestoreEgressResponse{HostSubnetEgress: stored}, nil
}

func (a *addresses) drain(ctx context.Context, node string, drained bool) (*egressv1.HostSubnetEgress, error) {
	var v rpcerr.Violations
	spec.CheckNode("node", node, &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	stored, err := a.store.Drain(ctx, node, drained)
	if err != nil {
		return nil, status(err)
	}
	a.log.Info("egress of a node is to be drained or restored", "node", node, "drained", drained)
	return stored, nil
}

func (a *addresses) ListNetNamespaceEgress(ctx context.Context, r *egressv1.ListNetNamespaceEgressRequest) (*egressv1.ListNetNamespaceEgressResponse, error) {
	q, err := query(r, "namespaces", r.GetNamespaces(), checkNamespace)
	page, err := answer(ctx, a.store, q, err, a.store.NetNamespaces)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListNetNamespaceEgressResponse{NetNamespaceEgress: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (a *addresses) ListHostSubnetEgress(ctx context.Context, r *egressv1.ListHostSubnetEgressRequest) (*egressv1.ListHostSubnetEgressResponse, error) {
	q, err := query(r, "nodes", r.GetNodes(), checkNode)
	page, err := answer(ctx, a.store, q, err, a.store.HostSubnets)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListHostSubnetEgressResponse{HostSubnetEgress: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (a *addresses) ListEgressAssignments(ctx context.Context, r *egressv1.ListEgressAssignmentsRequest) (*egressv1.ListEgressAssignmentsResponse, error) {
	q, err := query(r, "namespaces", r.GetNamespaces(), checkNamespace)
	page, err := answer(ctx, a.store, q, err, a.store.Assignments)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListEgressAssignmentsResponse{EgressAssignments: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence, Decided: page.Decided}, nil
}

func (a *addresses) ListEgressPods(ctx context.Context, r *egressv1.ListEgressPodsRequest) (*egressv1.ListEgressPodsResponse, error) {
	q, err := query(r, "namespaces", r.GetNamespaces(), checkNamespace)
	page, err := answer(ctx, a.store, q, err, a.store.Pods)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListEgressPodsResponse{EgressPods: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}

func (a *addresses) ListEgressHostings(ctx context.Context, r *egressv1.ListEgressHostingsRequest) (*egressv1.ListEgressHostingsResponse, error) {
	q, err := query(r, "nodes", r.GetNodes(), checkNode)
	page, err := answer(ctx, a.store, q, err, a.store.Hostings)
	if err != nil {
		return nil, err
	}
	return &egressv1.ListEgressHostingsResponse{EgressHostings: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence}, nil
}
