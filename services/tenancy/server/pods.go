package server

import (
	"context"
	"strings"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// pods answers PodRegistryService.
type pods struct {
	tenancyv1.UnsafePodRegistryServiceServer

	bucket     *bucket.Bucket
	registry   *registry.Registry
	namespaces *netnamespace.Store
	source     PodSource // nil: what agents say is all there is
	fail       failures
}

func (s *pods) RegisterPod(ctx context.Context, r *tenancyv1.RegisterPodRequest) (*tenancyv1.RegisterPodResponse, error) {
	var v rpcerr.Violations
	checkPod(&v, "pod", r.GetPod())
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := s.describe(ctx, r.GetPod()); err != nil {
		return nil, err
	}
	pod, err := s.registry.Register(ctx, r.GetPod())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.addVNIDs([]*tenancyv1.Pod{pod})
	return &tenancyv1.RegisterPodResponse{Pod: pod}, nil
}

func (s *pods) UnregisterPod(ctx context.Context, r *tenancyv1.UnregisterPodRequest) (*tenancyv1.UnregisterPodResponse, error) {
	var v rpcerr.Violations
	checkNamespace(&v, "namespace", r.GetNamespace())
	checkSubdomain(&v, "name", r.GetName())
	checkSubdomain(&v, "node", r.GetNode())
	checkSandbox(&v, "sandbox_id", r.GetSandboxId())
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	err := s.registry.Unregister(ctx, registry.Sandbox{
		Namespace: r.GetNamespace(), Name: r.GetName(), Node: r.GetNode(), ID: r.GetSandboxId(),
	})
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &tenancyv1.UnregisterPodResponse{}, nil
}

func (s *pods) SyncNodePods(ctx context.Context, r *tenancyv1.SyncNodePodsRequest) (*tenancyv1.SyncNodePodsResponse, error) {
	var v rpcerr.Violations
	checkSubdomain(&v, "node", r.GetNode())
	parsePods(&v, r.GetNode(), r.GetPods())
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	known, unknown, err := s.describeAll(ctx, r.GetPods())
	if err != nil {
		return nil, err
	}
	counts, err := s.registry.Sync(ctx, r.GetNode(), known)
	if err == nil {
		err = unknown
	}
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &tenancyv1.SyncNodePodsResponse{
		Written:    uint32(counts.Written),    //nolint:gosec // at most maxSyncPods
		Removed:    uint32(counts.Removed),    //nolint:gosec // a node's pods fit its memory
		Superseded: uint32(counts.Superseded), //nolint:gosec // at most maxSyncPods
	}, nil
}

func (s *pods) SetPodConditions(ctx context.Context, r *tenancyv1.SetPodConditionsRequest) (*tenancyv1.SetPodConditionsResponse, error) {
	if err := parseConditions(r); err != nil {
		return nil, err
	}
	name := registry.Name{Namespace: r.GetNamespace(), Pod: r.GetName()}
	pod, err := s.registry.SetConditions(ctx, name, r.GetSandboxId(), r.GetConditions())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.addVNIDs([]*tenancyv1.Pod{pod})
	return &tenancyv1.SetPodConditionsResponse{Pod: pod}, nil
}

func (s *pods) UpdatePodLabels(ctx context.Context, r *tenancyv1.UpdatePodLabelsRequest) (*tenancyv1.UpdatePodLabelsResponse, error) {
	change, err := parsePodLabels(r)
	if err != nil {
		return nil, err
	}
	name := registry.Name{Namespace: r.GetNamespace(), Pod: r.GetName()}
	pod, err := s.registry.UpdateLabels(ctx, name, r.GetSandboxId(), change)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.addVNIDs([]*tenancyv1.Pod{pod})
	return &tenancyv1.UpdatePodLabelsResponse{Pod: pod}, nil
}

func (s *pods) ListPods(ctx context.Context, r *tenancyv1.ListPodsRequest) (*tenancyv1.ListPodsResponse, error) {
	p, err := parsePodPage(r)
	if err != nil {
		return nil, err
	}
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	namespace, name, _ := strings.Cut(p.after, "/")
	listing, err := s.registry.List(registry.Filter{
		Namespace: r.GetNamespace(), Node: r.GetNode(), After: registry.Name{Namespace: namespace, Pod: name},
	}, p.size)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.addVNIDs(listing.Pods)
	answer := &tenancyv1.ListPodsResponse{Pods: listing.Pods, Sequence: listing.Sequence}
	if listing.More {
		answer.NextPageToken = token(listing.Next.Namespace + "/" + listing.Next.Pod)
	}
	return answer, nil
}

// addVNIDs fills in the VNIDs of the pods' namespaces, as far as they have one.
func (s *pods) addVNIDs(list []*tenancyv1.Pod) {
	for _, pod := range list {
		pod.Netid = nil
		if number, found := s.namespaces.VNIDOf(pod.GetNamespace()); found {
			pod.Netid = &number
		}
	}
}
