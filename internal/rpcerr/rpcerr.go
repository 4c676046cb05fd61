// Package rpcerr makes and reads the errors that Damask's services answer.
//
// Every error has a gRPC code, a sentence, and a google.rpc.ErrorInfo with a
// machine-readable reason; bad input has a google.rpc.BadRequest with every
// violation besides. The package must not decide which code a domain error
// has: that is one function in each service.
//
// Used by all services and by the CLI.
package rpcerr

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// ReasonInvalidField is the reason of an error made by Violations.
const ReasonInvalidField = "INVALID_FIELD"

// New answers an error with a code, a reason in UPPER_SNAKE_CASE, the domain
// that the reason belongs to ("ipam.damask") and a sentence for a person.
// metadata may be nil.
func New(code codes.Code, domain, reason, message string, metadata map[string]string) error {
	return withDetails(code, message, &errdetails.ErrorInfo{
		Reason: reason, Domain: domain, Metadata: maps.Clone(metadata),
	})
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	st := status.New(code, message)
	detailed, err := st.WithDetails(details...)
	if err != nil { // only for code OK, or a message that cannot be marshalled
		return st.Err()
	}
	return detailed.Err()
}

// Reason answers the reason of an error that came from New or Violations,
// here or at the other end of a call, also when it has been wrapped since.
// Empty when it has none.
func Reason(err error) string {
	if info := detail[*errdetails.ErrorInfo](err); info != nil {
		return info.GetReason()
	}
	return ""
}

// Metadata answers what New was given, or nil.
func Metadata(err error) map[string]string {
	if info := detail[*errdetails.ErrorInfo](err); info != nil {
		return info.GetMetadata()
	}
	return nil
}

// Message answers the sentence for a person, without the code and the text
// that gRPC puts before it. For an error that is no status it is its text.
func Message(err error) string {
	var st interface{ GRPCStatus() *status.Status }
	if errors.As(err, &st) {
		return st.GRPCStatus().Message()
	}
	return err.Error()
}

func detail[T any](err error) T {
	var none T
	st, ok := status.FromError(err)
	if !ok {
		return none
	}
	for _, d := range st.Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	return none
}

// Violation is one field of a request that is wrong.
type Violation struct {
	// Field is its path in the request ("cluster_network.networks[1].cidr").
	Field string
	// Reason says what is wrong, as a phrase.
	Reason string
}

// Violations collects everything that is wrong with a request. The zero value
// is empty and ready.
type Violations struct {
	list []Violation
}

// Addf adds a violation of a field, given by its path in the request.
func (v *Violations) Addf(field, format string, args ...any) {
	v.list = append(v.list, Violation{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// Empty says whether there is no violation.
func (v *Violations) Empty() bool { return len(v.list) == 0 }

// Err answers INVALID_ARGUMENT with reason INVALID_FIELD and every violation,
// or nil when there is none. Its sentence names them all too.
func (v *Violations) Err(domain string) error {
	if v.Empty() {
		return nil
	}
	phrases := make([]string, len(v.list))
	bad := &errdetails.BadRequest{}
	for i, violation := range v.list {
		phrases[i] = violation.Field + ": " + violation.Reason
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: violation.Field, Description: violation.Reason,
		})
	}
	info := &errdetails.ErrorInfo{Reason: ReasonInvalidField, Domain: domain}
	return withDetails(codes.InvalidArgument, strings.Join(phrases, "; "), info, bad)
}

// List answers the violations in an error made by Err, here or at the other
// end of a call, in the order in which they were added.
func List(err error) []Violation {
	var list []Violation
	for _, f := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
		list = append(list, Violation{Field: f.GetField(), Reason: f.GetDescription()})
	}
	return slices.Clip(list)
}
