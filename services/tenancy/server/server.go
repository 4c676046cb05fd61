// Package server answers damask.tenancy.v1 over gRPC.
//
// It owns the way from a request to an answer: read it with all its violations,
// have it decided and stored, answer. It promises that every refusal has a
// reason of the API. It must not decide anything about tenants itself; who may
// call is decided before it (package rpcserve).
package server

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// Domain is the domain of the reasons in this API's errors.
const Domain = "tenancy.damask"

// Config is what a server answers from.
type Config struct {
	Bucket     *bucket.Bucket
	Namespaces *netnamespace.Store
	Pods       *registry.Registry
	Policies   *policystore.Store
	Waiter     *resolution.Waiter
	// Source says more of pods than their agents know; nil: nobody does.
	Source PodSource
	// Range is which VNIDs may be wished for.
	Range vnid.Range
	// Exhausted is called when a VNID was asked for and none was free.
	Exhausted func()
	Log       hclog.Logger
}

// Register puts the API's services on a gRPC server.
func Register(on grpc.ServiceRegistrar, cfg Config) {
	fail := failures{exhausted: cfg.Exhausted}
	tenancyv1.RegisterNetNamespaceServiceServer(on, &netNamespaces{
		bucket: cfg.Bucket, store: cfg.Namespaces, span: cfg.Range, fail: fail, log: cfg.Log,
	})
	tenancyv1.RegisterIsolationServiceServer(on, &isolationMode{bucket: cfg.Bucket, fail: fail, log: cfg.Log})
	tenancyv1.RegisterPodRegistryServiceServer(on, &pods{
		bucket: cfg.Bucket, registry: cfg.Pods, namespaces: cfg.Namespaces, source: cfg.Source, fail: fail,
	})
	tenancyv1.RegisterNetworkPolicyServiceServer(on, &networkPolicies{
		bucket: cfg.Bucket, store: cfg.Policies, waiter: cfg.Waiter, fail: fail, log: cfg.Log,
	})
	tenancyv1.RegisterResolvedPolicyServiceServer(on, &resolvedPolicies{bucket: cfg.Bucket, fail: fail})
}

// freshForOperators catches up with the store before an operator's list: he
// expects to read what he just wrote through another replica. Followers learn
// of that from the bus, and there are thousands of them.
func freshForOperators(ctx context.Context, b *bucket.Bucket) error {
	if id, ok := rpcserve.Caller(ctx); ok && id.Role != accessv1.Role_ROLE_OPERATOR {
		return catchup.Once(ctx, b)
	}
	return catchup.IfPossible(ctx, b)
}
