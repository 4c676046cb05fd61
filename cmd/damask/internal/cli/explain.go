package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

// refusal is an error as an operator reads it: a sentence, and then what is
// wrong, one thing a line. It keeps the error that it words.
type refusal struct {
	text  string
	cause error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.cause }

// explain words an error that came from a call; others stay as they are.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*refusal](err); ok {
		return err
	}
	text, ok := words(err)
	if !ok {
		return err
	}
	return &refusal{text: text, cause: err}
}

// words answers the sentence for an error of a call, and false for any other.
func words(err error) (string, bool) {
	if errors.Is(err, context.Canceled) {
		return "interrupted", true
	}
	var call interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &call) {
		return "", false
	}
	if violations := rpcerr.List(err); len(violations) > 0 {
		lines := []string{"the request was refused:"}
		for _, v := range violations {
			lines = append(lines, fmt.Sprintf("  %s: %s", v.Field, v.Reason))
		}
		return strings.Join(lines, "\n"), true
	}
	message := rpcerr.Message(err)
	if rpcerr.Reason(err) != "" {
		return message, true
	}
	switch call.GRPCStatus().Code() {
	case codes.DeadlineExceeded:
		return "no answer in time: " + message, true
	case codes.Unavailable:
		return "the service cannot be reached: " + message, true
	case codes.PermissionDenied:
		return "not allowed: " + message, true
	case codes.Unimplemented:
		return "the service is of another version: " + message, true
	}
	return message, true
}
