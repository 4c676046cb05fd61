package main

import (
	"context"
	"io"
	"net/http"
	"strconv"
)

// fetch asks a web server, and answers its status code in the place of a name.
func fetch(addr string) (status string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return strconv.Itoa(answer.StatusCode), err
}
