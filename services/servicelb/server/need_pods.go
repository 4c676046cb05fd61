package server

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// needPods answers NeedPodsService.
type needPods struct {
	servicelbv1.UnsafeNeedPodsServiceServer

	store *catalog.Store
	fail  failures
	log   hclog.Logger
}

func (s *needPods) ReportNeedPods(ctx context.Context, r *servicelbv1.ReportNeedPodsRequest) (*servicelbv1.ReportNeedPodsResponse, error) {
	var v rpcerr.Violations
	spec.CheckServiceName("", r.GetNamespace(), r.GetName(), &v)
	spec.CheckNodeName("node", r.GetNode(), &v)
	if err := v.Err(Domain); err != nil {
		return nil, err
	}
	stored, err := s.store.ReportNeed(ctx, catalog.Name{Namespace: r.GetNamespace(), Name: r.GetName()}, r.GetNode(), time.Now())
	if err != nil {
		return nil, s.fail.status(err)
	}
	if stored.GetCount() == 1 {
		s.log.Info("idled service has traffic and needs pods", "namespace", stored.GetNamespace(), "service", stored.GetName(), "node", r.GetNode())
	}
	return &servicelbv1.ReportNeedPodsResponse{NeedPods: stored}, nil
}

func (s *needPods) ListNeedPods(ctx context.Context, r *servicelbv1.ListNeedPodsRequest) (*servicelbv1.ListNeedPodsResponse, error) {
	q, err := parseNeedPodsPage(r)
	if err != nil {
		return nil, err
	}
	if err := s.store.CatchUpIfPossible(ctx, follower(ctx)); err != nil {
		return nil, s.fail.status(err)
	}
	page, err := s.store.Needs(q)
	if err != nil {
		return nil, s.fail.status(err)
	}
	return &servicelbv1.ListNeedPodsResponse{
		NeedPods: page.Objects, NextPageToken: token(page.Next), Sequence: page.Sequence,
	}, nil
}
