package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/follow"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// followServices follows all Services. Who else must know of them is told first.
func followServices(nc *nats.Conn, client servicelbv1.ServiceServiceClient, cache string, to *svcsync.Syncer, first func(name string, service *servicelbv1.Service), log hclog.Logger) *follow.Follower[*servicelbv1.Service] {
	return follow.New(nc, follow.Source[*servicelbv1.Service]{
		Service: "servicelb", Kind: "service", Nested: true,
		List: func(ctx context.Context, _ []string) ([]*servicelbv1.Service, uint64, error) {
			return pages(func(token string) ([]*servicelbv1.Service, string, uint64, error) {
				r, err := client.ListServices(ctx, &servicelbv1.ListServicesRequest{PageSize: listed, PageToken: token})
				return r.GetServices(), r.GetNextPageToken(), r.GetSequence(), err
			})
		},
		Name:     func(s *servicelbv1.Service) string { return s.GetNamespace() + "/" + s.GetName() },
		Revision: (*servicelbv1.Service).GetRevision,
	}, follow.Options[*servicelbv1.Service]{All: true, Cache: cache, Log: log, OnChange: func(e follow.Event[*servicelbv1.Service]) {
		first(e.Name, e.Object)
		to.ServiceChanged(e.Name, e.Revision)
	}})
}

// followSlices follows all EndpointSlices. Who else must know of them is told first.
func followSlices(nc *nats.Conn, client servicelbv1.EndpointSliceServiceClient, cache string, to *svcsync.Syncer, first func(name string, slice *servicelbv1.EndpointSlice), log hclog.Logger) *follow.Follower[*servicelbv1.EndpointSlice] {
	return follow.New(nc, follow.Source[*servicelbv1.EndpointSlice]{
		Service: "servicelb", Kind: "endpointslice", Nested: true,
		List: func(ctx context.Context, _ []string) ([]*servicelbv1.EndpointSlice, uint64, error) {
			return pages(func(token string) ([]*servicelbv1.EndpointSlice, string, uint64, error) {
				r, err := client.ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{PageSize: listed, PageToken: token})
				return r.GetEndpointSlices(), r.GetNextPageToken(), r.GetSequence(), err
			})
		},
		Name:     func(s *servicelbv1.EndpointSlice) string { return s.GetNamespace() + "/" + s.GetName() },
		Revision: (*servicelbv1.EndpointSlice).GetRevision,
	}, follow.Options[*servicelbv1.EndpointSlice]{All: true, Cache: cache, Log: log, OnChange: func(e follow.Event[*servicelbv1.EndpointSlice]) {
		first(e.Name, e.Object)
		to.SliceChanged(e.Name, e.Revision)
	}})
}
