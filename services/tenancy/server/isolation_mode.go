package server

import (
	"context"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
)

// isolationMode answers IsolationService.
type isolationMode struct {
	tenancyv1.UnsafeIsolationServiceServer

	bucket *bucket.Bucket
	fail   failures
	log    hclog.Logger
}

func (s *isolationMode) GetIsolation(ctx context.Context, _ *tenancyv1.GetIsolationRequest) (*tenancyv1.GetIsolationResponse, error) {
	if err := freshForOperators(ctx, s.bucket); err != nil {
		return nil, s.fail.status(err)
	}
	snapshot := s.bucket.Snapshot()
	mode, err := isolation.Read(snapshot)
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &tenancyv1.GetIsolationResponse{Isolation: mode, Sequence: snapshot.Sequence()}, nil
}

func (s *isolationMode) SetIsolation(ctx context.Context, r *tenancyv1.SetIsolationRequest) (*tenancyv1.SetIsolationResponse, error) {
	if err := parseMode(r.GetMode()); err != nil {
		return nil, err
	}
	mode, err := isolation.Set(ctx, s.bucket, r.GetMode())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Info("isolation mode set", "mode", modeName(mode.GetMode()), "revision", mode.GetRevision())
	return &tenancyv1.SetIsolationResponse{Isolation: mode}, nil
}

// parseMode refuses what is not a mode of this version.
func parseMode(mode tenancyv1.IsolationMode) error {
	var v rpcerr.Violations
	switch mode {
	case tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET, tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT,
		tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY, tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED:
	case tenancyv1.IsolationMode_ISOLATION_MODE_UNSPECIFIED:
		v.Addf("mode", "is required: subnet, multitenant, networkpolicy or combined")
	default:
		v.Addf("mode", "%d is not a mode: subnet, multitenant, networkpolicy or combined", int32(mode))
	}
	return v.Err(Domain)
}

// modeName is a mode as people write it.
func modeName(mode tenancyv1.IsolationMode) string {
	return strings.ToLower(strings.TrimPrefix(mode.String(), "ISOLATION_MODE_"))
}
