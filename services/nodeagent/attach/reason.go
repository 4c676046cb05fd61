package attach

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
)

// Domain of the reasons below.
const Domain = "node.damask"

// Reasons; damask-cni turns each one into a CNI error code.
const (
	ReasonInvalidEnvironment = "INVALID_ENVIRONMENT"
	ReasonInvalidConfig      = "INVALID_NETWORK_CONFIG"
	ReasonUnknownContainer   = "UNKNOWN_CONTAINER"
	ReasonTryAgainLater      = "TRY_AGAIN_LATER"
	ReasonNodeNotReady       = "NODE_NOT_READY"
	ReasonNoAddress          = "NO_ADDRESS"
	ReasonUnknownNamespace   = "UNKNOWN_NAMESPACE"
	ReasonAddressTaken       = "ADDRESS_TAKEN"
	ReasonStateDiffers       = "NETWORK_STATE_DIFFERS"
	ReasonPortTaken          = "PORT_TAKEN"
	ReasonHostPortTaken      = "HOST_PORT_TAKEN"
)

// refusal makes a status of any error, under what was being done. An error that
// has a reason of its own keeps it. What is not known better can be tried again:
// the switch or the kernel did not do something that they did before.
func refusal(doing string, err error) error {
	message := doing + ": " + rpcerr.Message(err)
	if reason := rpcerr.Reason(err); reason != "" {
		return rpcerr.New(codeOf(reason), Domain, reason, message, rpcerr.Metadata(err))
	}
	reason := ReasonTryAgainLater
	switch {
	case errors.Is(err, lease.ErrFull), errors.Is(err, lease.ErrPortsFull):
		reason = ReasonNoAddress
	case errors.Is(err, lease.ErrAddressTaken):
		reason = ReasonAddressTaken
	case errors.Is(err, lease.ErrPortTaken), errors.Is(err, bridge.ErrOFPortTaken):
		reason = ReasonPortTaken
	case errors.Is(err, lease.ErrHostPortTaken):
		reason = ReasonHostPortTaken
	case errors.Is(err, lease.ErrBadWish), errors.Is(err, link.ErrParent):
		reason = ReasonInvalidConfig
	case errors.Is(err, errNetns):
		reason = ReasonInvalidEnvironment
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		message = fmt.Sprintf("%s: not done in time: %s", doing, rpcerr.Message(err))
	}
	return rpcerr.New(codeOf(reason), Domain, reason, message, nil)
}

// codeOf is the gRPC code of a reason.
func codeOf(reason string) codes.Code {
	switch reason {
	case ReasonInvalidEnvironment, ReasonInvalidConfig:
		return codes.InvalidArgument
	case ReasonUnknownContainer, ReasonUnknownNamespace:
		return codes.NotFound
	case ReasonNoAddress:
		return codes.ResourceExhausted
	case ReasonAddressTaken, ReasonPortTaken, ReasonHostPortTaken:
		return codes.AlreadyExists
	case ReasonStateDiffers:
		return codes.FailedPrecondition
	default:
		return codes.Unavailable
	}
}
