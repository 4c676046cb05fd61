// Package server answers damask.servicelb.v1 over gRPC.
//
// It owns the way from a request to an answer: read it with all its violations,
// have it decided and stored, answer. It promises that every refusal has a
// reason of the API. It must not decide anything about services itself; who may
// call is decided before it (package rpcserve).
package server

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// Domain is the domain of the reasons in this API's errors.
const Domain = "servicelb.damask"

// Config is what a server answers from.
type Config struct {
	Store *catalog.Store
	// Exhausted is called when something was asked for and none was free.
	Exhausted func()
	Log       hclog.Logger
}

// Register puts the API's services on a gRPC server.
func Register(on grpc.ServiceRegistrar, cfg Config) {
	fail := failures{exhausted: cfg.Exhausted}
	servicelbv1.RegisterServiceServiceServer(on, &services{store: cfg.Store, fail: fail, log: cfg.Log})
	servicelbv1.RegisterEndpointSliceServiceServer(on, &endpointSlices{store: cfg.Store, fail: fail, log: cfg.Log})
	servicelbv1.RegisterNeedPodsServiceServer(on, &needPods{store: cfg.Store, fail: fail, log: cfg.Log})
}

// follower says whether the caller learns of changes from the bus. An operator
// expects to read what he just wrote through another replica.
func follower(ctx context.Context) bool {
	id, ok := rpcserve.Caller(ctx)
	return ok && id.Role != accessv1.Role_ROLE_OPERATOR
}
