package server

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// services answers ServiceService.
type services struct {
	servicelbv1.UnsafeServiceServiceServer

	store *catalog.Store
	fail  failures
	log   hclog.Logger
}

func (s *services) CreateService(ctx context.Context, r *servicelbv1.CreateServiceRequest) (*servicelbv1.CreateServiceResponse, error) {
	wish, err := parseService(r.GetService(), spec.CheckService)
	if err != nil {
		return nil, err
	}
	stored, err := s.store.Create(ctx, wish)
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("service created", "namespace", stored.GetNamespace(), "service", stored.GetName(), "revision", stored.GetRevision())
	return &servicelbv1.CreateServiceResponse{Service: stored}, nil
}

func (s *services) UpdateService(ctx context.Context, r *servicelbv1.UpdateServiceRequest) (*servicelbv1.UpdateServiceResponse, error) {
	// What the stored service adds or takes away is checked with it, later.
	wish, err := parseService(r.GetService(), nil)
	if err != nil {
		return nil, err
	}
	stored, err := s.store.Update(ctx, wish, r.GetService().GetRevision())
	if err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("service updated", "namespace", stored.GetNamespace(), "service", stored.GetName(), "revision", stored.GetRevision())
	return &servicelbv1.UpdateServiceResponse{Service: stored}, nil
}

func (s *services) DeleteService(ctx context.Context, r *servicelbv1.DeleteServiceRequest) (*servicelbv1.DeleteServiceResponse, error) {
	var v rpcerr.Violations
	spec.CheckServiceName("", r.GetNamespace(), r.GetName(), &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := s.store.Delete(ctx, catalog.Name{Namespace: r.GetNamespace(), Name: r.GetName()}); err != nil {
		return nil, s.fail.status(err)
	}
	s.log.Debug("service deleted", "namespace", r.GetNamespace(), "service", r.GetName())
	return &servicelbv1.DeleteServiceResponse{}, nil
}

func (s *services) GetService(ctx context.Context, r *servicelbv1.GetServiceRequest) (*servicelbv1.GetServiceResponse, error) {
	var v rpcerr.Violations
	spec.CheckServiceName("", r.GetNamespace(), r.GetName(), &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	if err := s.store.CatchUpIfPossible(ctx, false); err != nil {
		return nil, s.fail.status(err)
	}
	stored, err := s.store.Get(catalog.Name{Namespace: r.GetNamespace(), Name: r.GetName()})
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &servicelbv1.GetServiceResponse{Service: stored}, nil
}

func (s *services) ListServices(ctx context.Context, r *servicelbv1.ListServicesRequest) (*servicelbv1.ListServicesResponse, error) {
	q, err := parseServicePage(r)
	if err != nil {
		return nil, err
	}
	if err := s.store.CatchUpIfPossible(ctx, follower(ctx)); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := s.store.Services(q)
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &servicelbv1.ListServicesResponse{
		Services: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence,
	}, nil
}
