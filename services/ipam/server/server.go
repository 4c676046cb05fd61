// Package server answers the gRPC services of damask.ipam.v1.
//
// It owns the way from requests to domain values and from domain errors to
// statuses. Each method parses the request and reports every violation, lets
// the store decide, and answers. It must not hold a rule of its own.
package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

// domain is the domain of the reasons in errors.
const domain = "ipam.damask"

// Register puts both services on a server.
func Register(r grpc.ServiceRegistrar, store *allocation.Store) {
	ipamv1.RegisterClusterNetworkServiceServer(r, &clusterNetworks{store: store})
	ipamv1.RegisterHostSubnetServiceServer(r, &hostSubnets{store: store})
}

// answers says which status each kind of refusal has.
var answers = map[allocation.Kind]struct {
	code   codes.Code
	reason string
}{
	allocation.NoClusterNetwork: {codes.FailedPrecondition, "NO_CLUSTER_NETWORK"},
	allocation.NotFound:         {codes.NotFound, "NOT_FOUND"},
	allocation.AlreadyExists:    {codes.AlreadyExists, "ALREADY_EXISTS"},
	allocation.StaleRevision:    {codes.Aborted, "STALE_REVISION"},
	allocation.OtherIdentity:    {codes.FailedPrecondition, "STALE_REVISION"},
	allocation.Overlap:          {codes.FailedPrecondition, "OVERLAP"},
	allocation.InUse:            {codes.FailedPrecondition, "IN_USE"},
	allocation.Exhausted:        {codes.ResourceExhausted, "EXHAUSTED"},
	allocation.Held:             {codes.Unavailable, "NOT_ADOPTED"},
}

// status turns a domain error into what the caller gets. What it does not
// know stays as it is: the server's interceptor hides it from the caller and
// logs it.
func status(ctx context.Context, err error) error {
	var refusal *allocation.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		a := answers[refusal.Kind]
		return rpcerr.New(a.code, domain, a.reason, refusal.Message, refusal.Metadata)
	case errors.Is(err, allocation.ErrUnavailable), errors.Is(err, bucket.ErrOutcomeUnknown),
		ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return rpcerr.New(codes.Unavailable, domain, "STORE_UNAVAILABLE", "the store does not answer; try again", nil)
	default:
		return err
	}
}
