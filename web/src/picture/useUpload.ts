import { useMutation } from '@tanstack/react-query';
import { client } from '../api/client';
import { queryClient } from '../api/queries';
import type { Picture } from '../api/types';
import { go } from '../route/useRoute';

/** Gives a picture to the server, and goes on with it. All who use it see how the last one went. */
export function useUpload() {
  return useMutation({
    mutationKey: ['upload'],
    mutationFn: client.upload,
    onSuccess: (picture) => {
      queryClient.setQueryData<Picture[]>(['images'], (held) => [...(held ?? []).filter((each) => each.id !== picture.id), picture]);
      go({ image: picture.id });
    },
  });
}
