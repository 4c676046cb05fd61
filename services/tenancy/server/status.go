package server

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/explain"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

// Reasons of this API's errors.
const (
	reasonNotFound         = "NOT_FOUND"
	reasonAlreadyExists    = "ALREADY_EXISTS"
	reasonVNIDTaken        = "VNID_TAKEN"
	reasonExhausted        = "EXHAUSTED"
	reasonDefaultNamespace = "DEFAULT_NAMESPACE"
	reasonWrongMode        = "WRONG_MODE"
	reasonHasPods          = "HAS_PODS"
	reasonTooLarge         = "TOO_LARGE"
	reasonNotResolved      = "NOT_RESOLVED"
	reasonStoreAway        = "STORE_UNAVAILABLE"
	reasonClusterUnknown   = "CLUSTER_UNKNOWN"
	reasonHostNetwork      = "HOST_NETWORK"
	reasonReportAll        = "REPORT_ALL"
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
	if errors.Is(err, catchup.ErrStoreAway) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bucket.ErrOutcomeUnknown) {
		return rpcerr.New(codes.Unavailable, Domain, reasonStoreAway, "the store does not answer; try again", nil)
	}
	var unknown *registry.UnknownPodError
	if errors.As(err, &unknown) || errors.Is(err, netnamespace.ErrKeptUnknown) {
		return rpcerr.New(codes.Unavailable, Domain, reasonClusterUnknown, err.Error(), nil)
	}
	return err // rpcserve logs it, and keeps it from the caller
}

// refusal answers the status of an error that is a fact about tenants, nil for
// any other.
func (f failures) refusal(err error) error {
	refuse := func(code codes.Code, reason string, metadata map[string]string) error {
		return rpcerr.New(code, Domain, reason, err.Error(), metadata)
	}
	var (
		notFound  *netnamespace.NotFoundError
		noPod     *registry.NotFoundError
		exists    *netnamespace.ExistsError
		taken     *netnamespace.TakenError
		exhausted *netnamespace.ExhaustedError
		crowded   *netnamespace.CrowdedError
		isDefault *netnamespace.DefaultError
		mode      *netnamespace.ModeError
		hasPods   *netnamespace.PodsError
		tooLarge  *labels.TooLargeError
		noPolicy  *policystore.NotFoundError
		invalid   *policystore.InvalidError
		noPods    *explain.NoPodError
		notReady  *explain.NotReadyError
		noNetwork *registry.HostNetworkError
		allFirst  *registry.ReportFirstError
	)
	switch {
	case errors.As(err, &notFound):
		return refuse(codes.NotFound, reasonNotFound, map[string]string{"name": notFound.Name})
	case errors.As(err, &noPod):
		return refuse(codes.NotFound, reasonNotFound, map[string]string{"name": noPod.Name.Namespace + "/" + noPod.Name.Pod})
	case errors.As(err, &exists):
		return refuse(codes.AlreadyExists, reasonAlreadyExists, map[string]string{"name": exists.Name})
	case errors.As(err, &taken):
		return refuse(codes.FailedPrecondition, reasonVNIDTaken, map[string]string{
			"netid": strconv.FormatUint(uint64(taken.VNID), 10), "name": taken.By[0],
		})
	case errors.As(err, &exhausted):
		f.exhausted()
		return refuse(codes.ResourceExhausted, reasonExhausted, nil)
	case errors.As(err, &crowded):
		return refuse(codes.ResourceExhausted, reasonExhausted, map[string]string{
			"netid": strconv.FormatUint(uint64(crowded.VNID), 10),
		})
	case errors.As(err, &isDefault):
		return refuse(codes.FailedPrecondition, reasonDefaultNamespace, nil)
	case errors.As(err, &mode):
		return refuse(codes.FailedPrecondition, reasonWrongMode, nil)
	case errors.As(err, &noPolicy):
		return refuse(codes.NotFound, reasonNotFound, map[string]string{"name": noPolicy.Key.String()})
	case errors.As(err, &invalid):
		return refusedFields(invalid)
	case errors.As(err, &noPods):
		var v rpcerr.Violations
		v.Addf("to", "%s", err.Error())
		return v.Err(Domain)
	case errors.As(err, &notReady):
		return refuse(codes.FailedPrecondition, reasonNotResolved, map[string]string{"name": notReady.Pod.Namespace + "/" + notReady.Pod.Pod})
	case errors.As(err, &noNetwork):
		return refuse(codes.FailedPrecondition, reasonHostNetwork, map[string]string{"name": noNetwork.Name.Namespace + "/" + noNetwork.Name.Pod})
	case errors.As(err, &allFirst):
		return refuse(codes.FailedPrecondition, reasonReportAll, map[string]string{"node": allFirst.Node})
	case errors.As(err, &tooLarge):
		return refuse(codes.FailedPrecondition, reasonTooLarge, nil)
	case errors.As(err, &hasPods):
		return refuse(codes.FailedPrecondition, reasonHasPods, map[string]string{
			"name": hasPods.Name, "pods": strconv.Itoa(hasPods.Count),
		})
	}
	return nil
}

// refusedFields answers the status of a manifest that is refused, field by field.
func refusedFields(e *policystore.InvalidError) error {
	var v rpcerr.Violations
	for _, one := range e.Violations {
		v.Addf(one.Field, "%s", one.Message)
	}
	return v.Err(Domain)
}
