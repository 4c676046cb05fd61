package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// Reasons of this API's errors.
const (
	reasonNotFound      = "NOT_FOUND"
	reasonAlreadyExists = "ALREADY_EXISTS"
	reasonStale         = "STALE_REVISION"
	reasonTaken         = "TAKEN"
	reasonNotIdled      = "NOT_IDLED"
	reasonExhausted     = "EXHAUSTED"
	reasonNoNetwork     = "NO_SERVICE_NETWORK"
	reasonTooMany       = "TOO_MANY_SLICES"
	reasonStoreAway     = "STORE_UNAVAILABLE"
)

// failures turns what went wrong below into what the caller is told.
type failures struct {
	exhausted func()
}

// status answers the gRPC status of an error, nil for nil.
func (f failures) status(err error) error {
	if err == nil {
		return nil
	}
	if refusal := f.refusal(err); refusal != nil {
		return refusal
	}
	if errors.Is(err, catalog.ErrNoNetwork) {
		return rpcerr.New(codes.Unavailable, Domain, reasonNoNetwork, err.Error(), nil)
	}
	if errors.Is(err, catalog.ErrStoreAway) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bucket.ErrOutcomeUnknown) {
		return rpcerr.New(codes.Unavailable, Domain, reasonStoreAway, "the store does not answer; try again", nil)
	}
	return err // rpcserve logs it, and keeps it from the caller
}

// refusal answers the status of an error that is a fact about services, nil for
// any other.
func (f failures) refusal(err error) error {
	refuse := func(code codes.Code, reason string, metadata map[string]string) error {
		return rpcerr.New(code, Domain, reason, err.Error(), metadata)
	}
	var (
		invalid   *catalog.InvalidError
		notFound  *catalog.NotFoundError
		notIdled  *catalog.NotIdledError
		exists    *catalog.ExistsError
		stale     *catalog.StaleError
		taken     *catalog.TakenError
		exhausted *catalog.ExhaustedError
		tooMany   *catalog.TooManySlicesError
	)
	switch {
	case errors.As(err, &invalid):
		return invalid.Violations.Err(Domain)
	case errors.As(err, &notFound):
		return refuse(codes.NotFound, reasonNotFound, map[string]string{"name": notFound.Name.String()})
	case errors.As(err, &notIdled):
		return refuse(codes.FailedPrecondition, reasonNotIdled, map[string]string{"name": notIdled.Name.String()})
	case errors.As(err, &exists):
		return refuse(codes.AlreadyExists, reasonAlreadyExists, map[string]string{"name": exists.Name.String()})
	case errors.As(err, &stale):
		return refuse(codes.Aborted, reasonStale, nil)
	case errors.As(err, &taken):
		first := taken.Conflicts[0]
		return refuse(codes.FailedPrecondition, reasonTaken, map[string]string{
			"field": first.Field, "value": first.Value, "by": first.By,
		})
	case errors.As(err, &exhausted):
		f.exhausted()
		return refuse(codes.ResourceExhausted, reasonExhausted, map[string]string{"field": exhausted.Field})
	case errors.As(err, &tooMany):
		return refuse(codes.ResourceExhausted, reasonTooMany, map[string]string{"name": tooMany.Name.String()})
	}
	return nil
}
