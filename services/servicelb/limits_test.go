package servicelb

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// TestAServiceAtEveryLimitCanBeStoredAndDeleted has as many slices, ports and
// addresses as a service can have: deleting it is one commit.
func TestAServiceAtEveryLimitCanBeStoredAndDeleted(t *testing.T) {
	sys := start(t, large())
	op := sys.operator()
	op.create(t, web("web", balanced, func(s *servicelbv1.Service) {
		s.Ports, s.ExternalTrafficPolicy = nil, local
		for i := range 100 {
			s.Ports = append(s.Ports, &servicelbv1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: uint32(i + 1)})
			s.LoadBalancerIps = append(s.LoadBalancerIps, fmt.Sprintf("198.51.100.%d", i))
		}
	}))
	for i := range 500 {
		op.put(t, sliceOf("web", fmt.Sprintf("web-%d", i), "10.128.0.1"))
	}
	_, err := op.PutEndpointSlice(soon(t), &servicelbv1.PutEndpointSliceRequest{EndpointSlice: sliceOf("web", "one-more", "10.128.0.1")})
	if status.Code(err) != codes.ResourceExhausted || rpcerr.Reason(err) != "TOO_MANY_SLICES" {
		t.Errorf("one more slice: %v", err)
	}
	op.remove(t, "web")
	store := sys.read()
	audit(t, store)
	for entry := range store.Scan("", "") {
		t.Errorf("%s is left", entry.Key)
	}
}

// TestPagesOfLargeSlicesFitAMessage lists slices that together are larger than
// what a client takes at once.
func TestPagesOfLargeSlicesFitAMessage(t *testing.T) {
	op := start(t, large()).operator()
	for i := range 12 {
		s := sliceOf("web", fmt.Sprintf("web-%d", i))
		for j := range 1000 {
			s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i, j/250, 1+j%250)}, NodeName: fmt.Sprintf("a-node-with-a-long-name-%0200d", j),
				TargetRef: &servicelbv1.TargetReference{Kind: "Pod", Namespace: "shop", Name: fmt.Sprintf("%0240d", j)},
			})
		}
		op.put(t, s)
	}
	for _, service := range []string{"", "web"} {
		r := &servicelbv1.ListEndpointSlicesRequest{PageSize: 1000, Namespaces: []string{"shop"}, ServiceName: service}
		seen, pages := 0, 0
		for {
			page, err := op.ListEndpointSlices(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			seen, pages = seen+len(page.GetEndpointSlices()), pages+1
			if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
				break
			}
		}
		if seen != 12 || pages < 3 {
			t.Errorf("of service %q %d slices on %d pages", service, seen, pages)
		}
	}
}
