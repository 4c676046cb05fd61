package server

import (
	"context"
	"time"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// storeTime bounds how long a call waits for the store, so that a caller
// hears that it is away before its own patience ends.
const storeTime = 10 * time.Second

// bounded runs work on the store with a deadline of its own.
func bounded[T any](ctx context.Context, work func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return work(ctx)
}

// clusterNetworks is damask.ipam.v1.ClusterNetworkService.
type clusterNetworks struct {
	ipamv1.UnsafeClusterNetworkServiceServer
	store *allocation.Store
}

// CreateClusterNetwork stores the address plan.
func (c *clusterNetworks) CreateClusterNetwork(ctx context.Context, request *ipamv1.CreateClusterNetworkRequest) (*ipamv1.CreateClusterNetworkResponse, error) {
	p, err := parsePlan(request.GetClusterNetwork())
	if err != nil {
		return nil, err
	}
	stored, err := bounded(ctx, func(ctx context.Context) (*ipamv1.ClusterNetwork, error) {
		return c.store.Create(ctx, p)
	})
	if err != nil {
		return nil, status(ctx, err)
	}
	return &ipamv1.CreateClusterNetworkResponse{ClusterNetwork: stored}, nil
}

// GetClusterNetwork answers the address plan.
func (c *clusterNetworks) GetClusterNetwork(ctx context.Context, _ *ipamv1.GetClusterNetworkRequest) (*ipamv1.GetClusterNetworkResponse, error) {
	stored, exists, _, err := c.store.ClusterNetwork(ctx)
	if err != nil {
		return nil, status(ctx, err)
	}
	if !exists {
		return nil, status(ctx, &allocation.Refusal{Kind: allocation.NotFound, Message: "there is no cluster network yet"})
	}
	return &ipamv1.GetClusterNetworkResponse{ClusterNetwork: stored}, nil
}

// ListClusterNetworks answers none or one.
func (c *clusterNetworks) ListClusterNetworks(ctx context.Context, _ *ipamv1.ListClusterNetworksRequest) (*ipamv1.ListClusterNetworksResponse, error) {
	stored, exists, sequence, err := c.store.ClusterNetwork(ctx)
	if err != nil {
		return nil, status(ctx, err)
	}
	answer := &ipamv1.ListClusterNetworksResponse{Sequence: sequence}
	if exists {
		answer.ClusterNetworks = append(answer.ClusterNetworks, stored)
	}
	return answer, nil
}

// UpdateClusterNetwork replaces the address plan.
func (c *clusterNetworks) UpdateClusterNetwork(ctx context.Context, request *ipamv1.UpdateClusterNetworkRequest) (*ipamv1.UpdateClusterNetworkResponse, error) {
	p, err := parsePlan(request.GetClusterNetwork())
	if err != nil {
		return nil, err
	}
	stored, err := bounded(ctx, func(ctx context.Context) (*ipamv1.ClusterNetwork, error) {
		return c.store.Replace(ctx, p, request.GetClusterNetwork().GetRevision())
	})
	if err != nil {
		return nil, status(ctx, err)
	}
	return &ipamv1.UpdateClusterNetworkResponse{ClusterNetwork: stored}, nil
}

func parsePlan(m *ipamv1.ClusterNetwork) (plan.Plan, error) {
	var v rpcerr.Violations
	if m == nil {
		v.Addf("cluster_network", "required")
		return plan.Plan{}, v.Err(domain)
	}
	p := plan.Parse(m, func(field, format string, args ...any) {
		v.Addf("cluster_network."+field, format, args...)
	})
	return p, v.Err(domain)
}
