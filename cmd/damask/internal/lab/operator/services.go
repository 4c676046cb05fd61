package operator

import (
	"context"
	"time"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// noNetwork is the reason of a servicelb that has not read the address plan yet.
const noNetwork = "NO_SERVICE_NETWORK"

// CreateService stores a service. It waits until servicelb knows the address plan.
func (o *Operator) CreateService(ctx context.Context, s *servicelbv1.Service) error {
	client := servicelbv1.NewServiceServiceClient(o.servicelb)
	for begin := time.Now(); ; {
		_, err := client.CreateService(ctx, &servicelbv1.CreateServiceRequest{Service: s})
		if rpcerr.Reason(err) != noNetwork {
			return worded(err)
		}
		if pause(ctx, begin) != nil {
			return worded(err) // says more than that the time is over
		}
	}
}

// PutEndpointSlice stores a slice.
func (o *Operator) PutEndpointSlice(ctx context.Context, s *servicelbv1.EndpointSlice) error {
	_, err := servicelbv1.NewEndpointSliceServiceClient(o.servicelb).PutEndpointSlice(ctx, &servicelbv1.PutEndpointSliceRequest{EndpointSlice: s})
	return worded(err)
}
