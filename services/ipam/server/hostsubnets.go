package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

// hostSubnets is damask.ipam.v1.HostSubnetService.
type hostSubnets struct {
	ipamv1.UnsafeHostSubnetServiceServer
	store *allocation.Store
}

// AllocateHostSubnet registers a node and answers its subnet.
func (h *hostSubnets) AllocateHostSubnet(ctx context.Context, request *ipamv1.AllocateHostSubnetRequest) (*ipamv1.AllocateHostSubnetResponse, error) {
	registration, err := parseRegistration(request)
	if err != nil {
		return nil, err
	}
	hostSubnet, err := bounded(ctx, func(ctx context.Context) (*ipamv1.HostSubnet, error) {
		return h.store.Register(ctx, registration, time.Now())
	})
	if err != nil {
		return nil, status(ctx, err)
	}
	return &ipamv1.AllocateHostSubnetResponse{HostSubnet: hostSubnet}, nil
}

// GetHostSubnet answers one.
func (h *hostSubnets) GetHostSubnet(ctx context.Context, request *ipamv1.GetHostSubnetRequest) (*ipamv1.GetHostSubnetResponse, error) {
	var v rpcerr.Violations
	parseNode(request.GetNode(), "node", &v)
	if err := v.Err(domain); err != nil {
		return nil, err
	}
	hostSubnet, exists, err := h.store.HostSubnet(ctx, request.GetNode())
	if err != nil {
		return nil, status(ctx, err)
	}
	if !exists {
		return nil, status(ctx, &allocation.Refusal{
			Kind:     allocation.NotFound,
			Message:  fmt.Sprintf("node %s has no subnet", request.GetNode()),
			Metadata: map[string]string{"node": request.GetNode()},
		})
	}
	return &ipamv1.GetHostSubnetResponse{HostSubnet: hostSubnet}, nil
}

// ListHostSubnets answers a page of all.
func (h *hostSubnets) ListHostSubnets(ctx context.Context, request *ipamv1.ListHostSubnetsRequest) (*ipamv1.ListHostSubnetsResponse, error) {
	p, err := parsePage(request)
	if err != nil {
		return nil, err
	}
	list, sequence, err := h.store.HostSubnets(ctx)
	if err != nil {
		return nil, status(ctx, err)
	}
	start, found := slices.BinarySearchFunc(list, p.after, func(h *ipamv1.HostSubnet, name string) int {
		return strings.Compare(h.GetName(), name)
	})
	if found {
		start++
	}
	rest := list[start:]
	answer := &ipamv1.ListHostSubnetsResponse{HostSubnets: rest[:min(p.size, len(rest))], Sequence: sequence}
	if p.size < len(rest) {
		answer.NextPageToken = token(rest[p.size-1].GetName())
	}
	return answer, nil
}

// ReleaseHostSubnet removes a node.
func (h *hostSubnets) ReleaseHostSubnet(ctx context.Context, request *ipamv1.ReleaseHostSubnetRequest) (*ipamv1.ReleaseHostSubnetResponse, error) {
	var v rpcerr.Violations
	parseNode(request.GetNode(), "node", &v)
	parseUID(request.GetNodeUid(), "node_uid", &v)
	if err := v.Err(domain); err != nil {
		return nil, err
	}
	return bounded(ctx, func(storeCtx context.Context) (*ipamv1.ReleaseHostSubnetResponse, error) {
		err := h.store.Release(storeCtx, request.GetNode(), request.GetNodeUid())
		if err != nil {
			return nil, status(ctx, err)
		}
		return &ipamv1.ReleaseHostSubnetResponse{}, nil
	})
}
