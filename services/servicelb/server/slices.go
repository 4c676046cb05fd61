package server

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// endpointSlices answers EndpointSliceService.
type endpointSlices struct {
	servicelbv1.UnsafeEndpointSliceServiceServer

	store *catalog.Store
	fail  failures
	log   hclog.Logger
}

func (s *endpointSlices) PutEndpointSlice(ctx context.Context, r *servicelbv1.PutEndpointSliceRequest) (*servicelbv1.PutEndpointSliceResponse, error) {
	wish, err := parseSlice(r.GetEndpointSlice())
	if err != nil {
		return nil, err
	}
	stored, err := s.store.PutSlice(ctx, wish, r.GetEndpointSlice().GetRevision())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("endpoints stored", "namespace", stored.GetNamespace(), "service", stored.GetServiceName(), "slice", stored.GetName(), "revision", stored.GetRevision())
	return &servicelbv1.PutEndpointSliceResponse{EndpointSlice: stored}, nil
}

func (s *endpointSlices) DeleteEndpointSlice(ctx context.Context, r *servicelbv1.DeleteEndpointSliceRequest) (*servicelbv1.DeleteEndpointSliceResponse, error) {
	var v rpcerr.Violations
	spec.CheckSliceName(r.GetNamespace(), r.GetName(), &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := s.store.DeleteSlice(ctx, catalog.Name{Namespace: r.GetNamespace(), Name: r.GetName()}); err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("endpoints deleted", "namespace", r.GetNamespace(), "slice", r.GetName())
	return &servicelbv1.DeleteEndpointSliceResponse{}, nil
}

func (s *endpointSlices) ListEndpointSlices(ctx context.Context, r *servicelbv1.ListEndpointSlicesRequest) (*servicelbv1.ListEndpointSlicesResponse, error) {
	q, err := parseSlicePage(r)
	if err != nil {
		return nil, err
	}
	if err := s.store.CatchUpIfPossible(ctx, follower(ctx)); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := s.store.Slices(q)
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &servicelbv1.ListEndpointSlicesResponse{
		EndpointSlices: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence,
	}, nil
}
