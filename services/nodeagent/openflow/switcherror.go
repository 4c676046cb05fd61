package openflow

import (
	"fmt"
	"strings"
)

// A SwitchError is an error message of the switch.
type SwitchError struct {
	Type         uint16
	Code         uint16
	Experimenter uint32 // Whose code it is, when Type is 0xffff.
}

// Error names the error as the specification and ovs-ofctl do: "OFPBMC_BAD_PREREQ".
func (e SwitchError) Error() string {
	name := ""
	switch {
	case e.Type == typeExperimenterError && e.Experimenter == experimenterONF:
		name = nameAt(bundleErrors, int(e.Code)-firstBundleError)
	case e.Type == typeExperimenterError && e.Experimenter == experimenterNX:
		name = niciraErrors[e.Code]
	case int(e.Type) < len(errorNames):
		name = nameAt(errorNames[e.Type], int(e.Code))
	}
	if name == "" {
		return fmt.Sprintf("error type %d code %d experimenter %#x", e.Type, e.Code, e.Experimenter)
	}
	return name
}

const (
	typeExperimenterError = 0xffff
	firstBundleError      = 2300 // ONF's codes for OpenFlow 1.3.
)

// errorNames has the names of codes by type, in the order of their numbers.
var errorNames = [...]string{
	"OFPHFC_INCOMPATIBLE OFPHFC_EPERM",
	"OFPBRC_BAD_VERSION OFPBRC_BAD_TYPE OFPBRC_BAD_STAT OFPBRC_BAD_VENDOR OFPBRC_BAD_SUBTYPE OFPBRC_EPERM " +
		"OFPBRC_BAD_LEN OFPBRC_BUFFER_EMPTY OFPBRC_BUFFER_UNKNOWN OFPBRC_BAD_TABLE_ID OFPBRC_IS_SECONDARY " +
		"OFPBRC_BAD_PORT OFPBRC_BAD_PACKET OFPBRC_MULTIPART_BUFFER_OVERFLOW",
	"OFPBAC_BAD_TYPE OFPBAC_BAD_LEN OFPBAC_BAD_VENDOR OFPBAC_BAD_VENDOR_TYPE OFPBAC_BAD_OUT_PORT " +
		"OFPBAC_BAD_ARGUMENT OFPBAC_EPERM OFPBAC_TOO_MANY OFPBAC_BAD_QUEUE OFPBAC_BAD_OUT_GROUP " +
		"OFPBAC_MATCH_INCONSISTENT OFPBAC_UNSUPPORTED_ORDER OFPBAC_BAD_TAG OFPBAC_BAD_SET_TYPE " +
		"OFPBAC_BAD_SET_LEN OFPBAC_BAD_SET_ARGUMENT",
	"OFPBIC_UNKNOWN_INST OFPBIC_UNSUP_INST OFPBIC_BAD_TABLE_ID OFPBIC_UNSUP_METADATA " +
		"OFPBIC_UNSUP_METADATA_MASK OFPBIC_BAD_EXPERIMENTER OFPBIC_BAD_EXP_TYPE OFPBIC_BAD_LEN OFPBIC_EPERM",
	"OFPBMC_BAD_TYPE OFPBMC_BAD_LEN OFPBMC_BAD_TAG OFPBMC_BAD_DL_ADDR_MASK OFPBMC_BAD_NW_ADDR_MASK " +
		"OFPBMC_BAD_WILDCARDS OFPBMC_BAD_FIELD OFPBMC_BAD_VALUE OFPBMC_BAD_MASK OFPBMC_BAD_PREREQ " +
		"OFPBMC_DUP_FIELD OFPBMC_EPERM",
	"OFPFMFC_UNKNOWN OFPFMFC_TABLE_FULL OFPFMFC_BAD_TABLE_ID OFPFMFC_OVERLAP OFPFMFC_EPERM " +
		"OFPFMFC_BAD_TIMEOUT OFPFMFC_BAD_COMMAND OFPFMFC_BAD_FLAGS",
	"OFPGMFC_GROUP_EXISTS OFPGMFC_INVALID_GROUP OFPGMFC_WEIGHT_UNSUPPORTED OFPGMFC_OUT_OF_GROUPS " +
		"OFPGMFC_OUT_OF_BUCKETS OFPGMFC_CHAINING_UNSUPPORTED OFPGMFC_WATCH_UNSUPPORTED OFPGMFC_LOOP " +
		"OFPGMFC_UNKNOWN_GROUP OFPGMFC_CHAINED_GROUP OFPGMFC_BAD_TYPE OFPGMFC_BAD_COMMAND OFPGMFC_BAD_BUCKET " +
		"OFPGMFC_BAD_WATCH OFPGMFC_EPERM",
	"OFPPMFC_BAD_PORT OFPPMFC_BAD_HW_ADDR OFPPMFC_BAD_CONFIG OFPPMFC_BAD_ADVERTISE OFPPMFC_EPERM",
	"OFPTMFC_BAD_TABLE OFPTMFC_BAD_CONFIG OFPTMFC_EPERM",
	"OFPQOFC_BAD_PORT OFPQOFC_BAD_QUEUE OFPQOFC_EPERM",
	"OFPSCFC_BAD_FLAGS OFPSCFC_BAD_LEN OFPSCFC_EPERM",
	"OFPRRFC_STALE OFPRRFC_UNSUP OFPRRFC_BAD_ROLE",
	"OFPMMFC_UNKNOWN OFPMMFC_METER_EXISTS OFPMMFC_INVALID_METER OFPMMFC_UNKNOWN_METER OFPMMFC_BAD_COMMAND " +
		"OFPMMFC_BAD_FLAGS OFPMMFC_BAD_RATE OFPMMFC_BAD_BURST OFPMMFC_BAD_BAND OFPMMFC_BAD_BAND_VALUE " +
		"OFPMMFC_OUT_OF_METERS OFPMMFC_OUT_OF_BANDS",
	"OFPTFFC_BAD_TABLE OFPTFFC_BAD_METADATA",
}

// bundleErrors has the names of ONF's codes from firstBundleError on.
const bundleErrors = "OFPBFC_UNKNOWN OFPBFC_EPERM OFPBFC_BAD_ID OFPBFC_BUNDLE_EXIST OFPBFC_BUNDLE_CLOSED OFPBFC_OUT_OF_BUNDLES OFPBFC_BAD_TYPE OFPBFC_BAD_FLAGS " +
	"OFPBFC_MSG_BAD_LEN OFPBFC_MSG_BAD_XID OFPBFC_MSG_UNSUP OFPBFC_MSG_CONFLICT OFPBFC_MSG_TOO_MANY OFPBFC_MSG_FAILED OFPBFC_TIMEOUT OFPBFC_BUNDLE_IN_PROGRESS"

// niciraErrors has the names of those of Open vSwitch's own codes that a flow can cause.
var niciraErrors = map[uint16]string{
	2: "NXBRC_NXM_INVALID", 3: "NXBRC_NXM_BAD_TYPE", 4: "NXBRC_MUST_BE_ZERO", 11: "NXBAC_MUST_BE_ZERO",
	12: "NXFMFC_HARDWARE", 13: "NXFMFC_BAD_TABLE_ID", 15: "NXBAC_BAD_CONJUNCTION", 34: "NXR_NOT_SUPPORTED",
	37: "NXFMFC_INVALID_TLV_FIELD", 42: "NXBAC_CT_DATAPATH_SUPPORT", 43: "NXBMC_CT_DATAPATH_SUPPORT",
}

// nameAt is the word number n of a list of words, or "" when there are fewer.
func nameAt(words string, n int) string {
	if n < 0 {
		return ""
	}
	for word := range strings.SplitSeq(words, " ") {
		if n == 0 {
			return word
		}
		n--
	}
	return ""
}

func decodeError(body string) error {
	if len(body) < 4 {
		return fmt.Errorf("error message: %w", errTruncated)
	}
	e := SwitchError{Type: uint16(number(body[:2])), Code: uint16(number(body[2:4]))}
	if e.Type == typeExperimenterError && len(body) >= 8 {
		e.Experimenter = uint32(number(body[4:8]))
	}
	return e
}
