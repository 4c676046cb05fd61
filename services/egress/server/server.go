// Package server answers damask.egress.v1 over gRPC.
//
// It owns the way from a request to an answer: read it with all its violations,
// have it stored or looked up, answer. It promises that every refusal has a
// reason of the API. It must not decide where an address is hosted; who may call
// is decided before it (package rpcserve).
package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
	"github.com/damask-sdn/damask/services/egress/watch"
)

// Domain is the domain of the reasons in this API's errors.
const Domain = "egress.damask"

// Reasons of this API's errors.
const (
	reasonNotFound  = "NOT_FOUND"
	reasonStale     = "STALE_REVISION"
	reasonTaken     = "TAKEN"
	reasonStoreAway = "STORE_UNAVAILABLE"
)

// Limits of requests; the proto files state them.
const (
	defaultPage = 1000
	maxPage     = 5000
	maxNames    = 1000
)

// Config is what a server answers from.
type Config struct {
	Store *store.Store
	Hub   *watch.Hub
	Log   hclog.Logger
}

// Register puts the API's services on a gRPC server.
func Register(on grpc.ServiceRegistrar, cfg Config) {
	egressv1.RegisterEgressIPServiceServer(on, &addresses{store: cfg.Store, log: cfg.Log})
	egressv1.RegisterEgressNodeServiceServer(on, &nodes{store: cfg.Store, hub: cfg.Hub})
	egressv1.RegisterEgressNetworkPolicyServiceServer(on, &policies{store: cfg.Store, log: cfg.Log})
}

// status answers the gRPC status of an error, nil for nil.
func status(err error) error {
	var (
		notFound *store.NotFoundError
		stale    *store.StaleError
		taken    *store.TakenError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notFound):
		return rpcerr.New(codes.NotFound, Domain, reasonNotFound, err.Error(), nil)
	case errors.As(err, &stale):
		return rpcerr.New(codes.Aborted, Domain, reasonStale, err.Error(), nil)
	case errors.As(err, &taken):
		return rpcerr.New(codes.FailedPrecondition, Domain, reasonTaken, err.Error(), map[string]string{
			"ip": taken.Conflicts[0].IP, "by": taken.Conflicts[0].By,
		})
	case errors.Is(err, store.ErrStoreAway) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bucket.ErrOutcomeUnknown):
		return rpcerr.New(codes.Unavailable, Domain, reasonStoreAway, "the store does not answer; try again", nil)
	}
	return err // rpcserve logs it, and keeps it from the caller
}

// follower says whether the caller learns of changes from the bus. An operator
// expects to read what he just wrote through another replica.
func follower(ctx context.Context) bool {
	id, ok := rpcserve.Caller(ctx)
	return ok && id.Role != accessv1.Role_ROLE_OPERATOR
}

// pageRequest is what the requests for lists have in common.
type pageRequest interface {
	GetPageSize() uint32
	GetPageToken() string
}

// query reads a request for a page. names are checked by check.
func query(r pageRequest, field string, names []string, check func(field, name string, v *rpcerr.Violations)) (store.Query, error) {
	return sizedQuery(r, defaultPage, maxPage, field, names, check)
}

func sizedQuery(r pageRequest, standard, most uint32, field string, names []string, check func(field, name string, v *rpcerr.Violations)) (store.Query, error) {
	var v rpcerr.Violations
	q := store.Query{Names: names, Size: int(standard)}
	switch {
	case r.GetPageSize() > most:
		v.Addf("page_size", "%d, at most %d are allowed", r.GetPageSize(), most)
	case r.GetPageSize() > 0:
		q.Size = int(r.GetPageSize())
	}
	after, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	if err != nil {
		v.Addf("page_token", "is not one that a previous answer gave")
	}
	q.After = string(after)
	if len(names) > maxNames {
		v.Addf(field, "%d names, at most %d are allowed", len(names), maxNames)
	} else {
		for i, name := range names {
			check(fmt.Sprintf("%s[%d]", field, i), name, &v)
		}
	}
	return q, v.Err(Domain)
}

// token is the page token of what comes after the key; empty for no key.
func token(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

// answer reads a page for a caller.
func answer[T any](ctx context.Context, s *store.Store, q store.Query, err error, read func(store.Query) (T, error)) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	if err := s.CatchUpIfPossible(ctx, follower(ctx)); err != nil {
		return none, status(err)
	}
	page, err := read(q)
	return page, status(err)
}

func checkNamespace(field, name string, v *rpcerr.Violations) { spec.CheckNamespace(field, name, v) }
func checkNode(field, name string, v *rpcerr.Violations)      { spec.CheckNode(field, name, v) }
