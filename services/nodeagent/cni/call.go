package cni

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// Error codes of this plugin: CNI leaves 100 and up to plugins.
const (
	codeNoAddress        = 101
	codeUnknownNamespace = 102
	codeAddressTaken     = 103
	codeStateDiffers     = 104
	codePortTaken        = 105
	codeHostPortTaken    = 106
)

// codeOf is the CNI code of an agent's reason. The list is in cni_service.proto.
func codeOf(reason string) (uint, bool) {
	switch reason {
	case "UNKNOWN_CONTAINER":
		return types.ErrUnknownContainer, true
	case "INVALID_ENVIRONMENT":
		return types.ErrInvalidEnvironmentVariables, true
	case "INVALID_NETWORK_CONFIG":
		return types.ErrInvalidNetworkConfig, true
	case "TRY_AGAIN_LATER":
		return types.ErrTryAgainLater, true
	case "NODE_NOT_READY":
		return types.ErrPluginNotAvailable, true
	case "NO_ADDRESS":
		return codeNoAddress, true
	case "UNKNOWN_NAMESPACE":
		return codeUnknownNamespace, true
	case "ADDRESS_TAKEN":
		return codeAddressTaken, true
	case "NETWORK_STATE_DIFFERS":
		return codeStateDiffers, true
	case "PORT_TAKEN":
		return codePortTaken, true
	case "HOST_PORT_TAKEN":
		return codeHostPortTaken, true
	default:
		return 0, false
	}
}

// call connects to the agent, does one thing and translates the error.
func call(c config, do func(ctx context.Context, agent cniv1.CNIServiceService) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return unreachable(c.socket, err.Error())
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	return translate(do(ctx, cniv1.NewCNIServiceClient(client)), c.socket, c.timeout)
}

// unreachable is the error for an agent that does not answer or hangs up.
func unreachable(socket, why string) error {
	return types.NewError(types.ErrTryAgainLater, "the node agent is not reachable at "+socket, why)
}

// translate makes a CNI error of an agent's, or of the way to it.
func translate(err error, socket string, timeout time.Duration) error {
	if err == nil {
		return nil
	}
	if known, ok := codeOf(rpcerr.Reason(err)); ok {
		return types.NewError(known, rpcerr.Message(err), "")
	}
	// What is no status was not said by the agent: the connection broke.
	st, answered := status.FromError(err)
	code := st.Code()
	switch {
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded, code == codes.Canceled:
		return types.NewError(types.ErrTryAgainLater, "the node agent gave no answer within "+timeout.String(), st.Message())
	case !answered, code == codes.Unavailable:
		return unreachable(socket, st.Message())
	default:
		return types.NewError(types.ErrInternal, st.Message(), "")
	}
}

// asStatus is an error as STATUS gives it: whatever keeps the agent from serving
// an ADD is "not available", code 50.
func asStatus(err error) error {
	var e *types.Error
	if errors.As(err, &e) && e.Code == types.ErrTryAgainLater {
		return types.NewError(types.ErrPluginNotAvailable, e.Msg, e.Details)
	}
	return err
}
