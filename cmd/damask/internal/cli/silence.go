package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

// service is the connection to a service. Nobody but the connection knows who
// it is that does not answer, so it says that itself.
type service struct {
	grpc.ClientConnInterface
	name      string
	addresses []string
}

// storeAway is the reason of a service whose store does not answer: while a NATS
// cluster elects a leader that is so for some seconds. Every RPC can be repeated.
const storeAway = "STORE_UNAVAILABLE"

// again is the pause before a call is repeated that found the store away.
const again = 300 * time.Millisecond

// Invoke is a call. As long as the command may take, it is repeated while the
// store is away.
func (s service) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	begin := time.Now()
	err := s.ClientConnInterface.Invoke(ctx, method, args, reply, options...)
	for rpcerr.Reason(err) == storeAway {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(again):
		}
		next := s.ClientConnInterface.Invoke(ctx, method, args, reply, options...)
		if ctx.Err() != nil && next != nil {
			return err // says more than that the time is over
		}
		err = next
	}
	switch code := status.Code(err); {
	case code != codes.DeadlineExceeded && code != codes.Unavailable, rpcerr.Reason(err) != "":
		return err
	}
	return &refusal{cause: err, text: fmt.Sprintf("the %s service does not answer at %s: gave up after %s%s",
		s.name, strings.Join(s.addresses, " or "), time.Since(begin).Round(100*time.Millisecond), reasonOf(err))}
}

// reasonOf answers why the last connection was not made, if gRPC tells.
func reasonOf(err error) string {
	for _, mark := range []string{"Error while dialing: ", "desc = ", "latest balancer error: "} {
		if _, reason, found := strings.Cut(rpcerr.Message(err), mark); found {
			return " (" + strings.ReplaceAll(strings.Trim(reason, "\" "), "\n", " ") + ")"
		}
	}
	return ""
}
